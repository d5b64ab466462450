//! What this process takes of its machine, under the names that Prometheus' clients have agreed on.

use std::fs;

use crate::telemetry::{logs, metrics};

/// Reads memory, threads and open files from Linux' `/proc`, where there is one, and counts dropped log lines.
pub fn refresh() {
    logs::refresh();
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kibibytes) = field(&status, "VmRSS:") {
            metrics::PROCESS_RESIDENT_MEMORY.set(kibibytes * 1024.0, metrics::NONE);
        }
        if let Some(threads) = field(&status, "Threads:") {
            metrics::PROCESS_THREADS.set(threads, metrics::NONE);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        metrics::PROCESS_OPEN_FDS.set(files.count() as f64, metrics::NONE);
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_first_number() {
        let status = "Name:\trag-api\nVmRSS:\t   51200 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(51200.0));
        assert_eq!(field(status, "Threads:"), Some(7.0));
        assert_eq!(field(status, "VmSwap:"), None);
    }
}
