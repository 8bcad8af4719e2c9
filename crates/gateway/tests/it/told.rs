//! What the operator is told: the log and the metrics.

use std::{
    io::{self, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::world::{World, eventually};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the log of all tests of this process, as the server writes it.
pub(crate) fn keep_the_log() {
    static KEPT: OnceLock<()> = OnceLock::new();
    KEPT.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_env_filter("info,berth_gateway=debug,berth_control=debug")
            .with_ansi(false)
            .with_writer(|| Log)
            .init();
    });
}

/// Whether the log has a line with all of this.
pub(crate) fn log_has(parts: &[&str]) -> bool {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&log).lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Whether nothing is in the log that a terminal acts on.
pub(crate) fn log_is_plain() -> bool {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&log).chars().all(|c| c == '\n' || !c.is_control())
        && !String::from_utf8_lossy(&log).lines().any(|line| line.starts_with("2026 ERROR"))
}

impl World {
    /// The number of a metric, 0 where it has none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut registry = Registry::default();
        self.control.register_metrics(&mut registry);
        self.control.measure();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        number.map_or(0.0, |number| number.parse().unwrap())
    }

    /// How often a limit was reached.
    pub(crate) fn reached(&self, limit: &str) -> f64 {
        self.metric(&format!("ssh_limits_total{{limit=\"{limit}\"}}"))
    }

    /// Waits until a limit was reached, so that the metrics and the log tell it.
    pub(crate) async fn tells(&self, limit: &str) {
        eventually(limit, || self.reached(limit) >= 1.0).await;
        let line = format!("limit=\"{limit}\"");
        let parts = ["WARN", "a limit of the ssh gateway was reached", "from=127.", line.as_str()];
        eventually("a line in the log", || log_has(&parts)).await;
    }
}
