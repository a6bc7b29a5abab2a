//! Metrics of this process, under the names that Prometheus's client libraries use.

use std::fmt;
use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::media::AirTime;

/// Reads the metrics from the system at each scrape. It leaves out those that the system does not tell.
#[derive(Debug)]
pub(super) struct Process {
    /// When the process started.
    pub(super) since: AirTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            let help = "CPU time, user and system";
            let cpu =
                encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
            ConstCounter::new(micros as f64 / 1e6).encode(cpu)?;
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
            let name = "process_resident_memory";
            let help = "Resident memory";
            let memory = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            ConstGauge::new(bytes).encode(memory)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let help = "Open file descriptors";
            let files = encoder.encode_descriptor("process_open_fds", help, None, MetricType::Gauge)?;
            ConstGauge::new(open.count() as i64).encode(files)?;
        }
        let name = "process_start_time";
        let help = "When the process started, since the Unix epoch";
        let start = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(self.since.0 as f64 / 1e9).encode(start)
    }
}

/// Resident memory in bytes, from the text of `/proc/self/status` (proc_pid_status(5)).
fn resident(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_proc_self_status() {
        assert_eq!(resident("Name:\tx\nVmHWM:\t  300 kB\nVmRSS:\t  250 kB\nThreads:\t1\n"), Some(256_000));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
