//! The machine that was measured on, and whether it was quiet.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

/// The description of the machine in the results.
#[derive(serde::Serialize)]
pub(crate) struct Machine {
    system: String,
    processors: usize,
    /// Load average of the minute before the bench.
    load_before: Option<f64>,
    /// Share of the processors' time that the host of this virtual machine took, 0 to 1.
    stolen: Option<f64>,
}

impl Machine {
    pub(crate) fn new(load_before: Option<f64>, stolen: Option<f64>) -> Machine {
        let uname = rustix::system::uname();
        let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let system = [uname.sysname(), uname.release(), uname.machine()].map(part).join(" ");
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Machine { system, processors, load_before, stolen }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} CPUs", self.system, self.processors)?;
        if let Some(load) = self.load_before {
            write!(f, "; load before: {load:.2}{}", if load > 0.5 { " (NOT QUIET)" } else { "" })?;
        }
        match self.stolen {
            Some(stolen) if stolen > 0.0 => {
                write!(f, "; {:.2} % of its time taken by its host", stolen * 100.0)
            }
            _ => Ok(()),
        }
    }
}

/// Time that the machine's processors have spent, in ticks of a hundredth of a second (/proc/stat).
#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    /// Ticks taken by the host of this virtual machine.
    stolen: u64,
    all: u64,
}

impl Ticks {
    pub(crate) fn now() -> Option<Ticks> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).take(8).collect();
        Some(Ticks { stolen: *ticks.get(7)?, all: ticks.iter().sum() })
    }

    /// The share of all processors' time that the host took since `before`.
    pub(crate) fn stolen_since(self, before: Ticks) -> f64 {
        self.stolen.saturating_sub(before.stolen) as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

/// The load average of the last minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Keeps a processor busy.
pub(crate) fn spin(seconds: &str) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut n = 0u64;
    while Instant::now() < until {
        for _ in 0..10_000 {
            n = std::hint::black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    Ok(())
}
