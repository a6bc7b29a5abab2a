//! What a program does when the system has no memory or no thread to give: it says so in a sentence, and ends with exit
//! status 1.

use std::any::Any;
use std::io;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::SIGABRT;
use signal_hook::flag::register_conditional_shutdown;
use tokio::runtime::{Builder, Runtime};

/// From now on this program ends with exit status 1 if it aborts. Rust and C++ abort when an allocation fails, and say so on
/// stderr before: in Rust only an unstable feature could do otherwise. There is no core dump then.
///
/// # Errors
/// The system's, if it takes no signal handler.
pub fn exit_if_aborted() -> io::Result<()> {
    register_conditional_shutdown(SIGABRT, 1, Arc::new(AtomicBool::new(true))).map(drop)
}

/// Least address space, in bytes, of a program that decodes films. Each thread takes 64 MB of it or more, for the allocator and its
/// stack. With less than 1.1 GB, a broadcaster of one small film on two cores ended at random: with an abort, with a segmentation
/// fault in a library of FFmpeg, or hung.
const LEAST_ADDRESS_SPACE: u64 = 3 << 29;

/// Checks that the limit of address space (`ulimit -v`) leaves room for a program that decodes films.
///
/// # Errors
/// The sentence that says how much there is, and how much there must be.
pub fn check_address_space() -> Result<(), String> {
    enough(getrlimit(Resource::As).current)
}

fn enough(limit: Option<u64>) -> Result<(), String> {
    match limit.filter(|&limit| limit < LEAST_ADDRESS_SPACE) {
        None => Ok(()),
        Some(limit) => Err(format!(
            "the limit of address space is {} kB, and decoding films takes {} kB at least; raise it with `ulimit -v`, or \
             with LimitAS= in a systemd unit",
            limit >> 10,
            LEAST_ADDRESS_SPACE >> 10,
        )),
    }
}

/// Builds a runtime. tokio panics if the system has no thread for it; this returns an error.
///
/// # Errors
/// The system has no thread or no descriptor to give.
pub fn build(builder: &mut Builder) -> io::Result<Runtime> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let built = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.build()));
    panic::set_hook(hook);
    built.unwrap_or_else(|panic| Err(io::Error::other(sentence(&*panic))))
}

/// The message of a panic.
fn sentence(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the runtime cannot start".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_address_space_is_told_of_with_both_numbers() {
        assert_eq!((enough(None), enough(Some(LEAST_ADDRESS_SPACE))), (Ok(()), Ok(())));
        let sentence = enough(Some(600_000 << 10)).unwrap_err();
        assert!(
            sentence.contains("is 600000 kB, and decoding films takes 1572864 kB at least"),
            "{sentence}"
        );
    }

    #[test]
    fn a_runtime_that_panics_when_it_is_built_is_an_error() {
        let mut builder = Builder::new_multi_thread();
        // tokio calls this while it builds the runtime, as it spawns the threads.
        builder.worker_threads(1).thread_name_fn(|| panic!("no thread is left: {}", 11));
        assert_eq!(build(&mut builder).unwrap_err().to_string(), "no thread is left: 11");
        assert!(build(Builder::new_multi_thread().worker_threads(1)).is_ok());
    }
}
