//! Memory that decoders used, given back to the system.

/// Gives memory that was freed back to the system. Decoders leave tens of megabytes in the allocator's arenas, one for some
/// threads, which it keeps for ever. Takes some milliseconds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back_memory() {
    // SAFETY: malloc_trim takes no pointer, and may be called at any time on any thread.
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    malloc_trim(0);
}

/// Other allocators give memory back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_memory() {}
