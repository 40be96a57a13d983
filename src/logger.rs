//! The log: one event, one line on standard error, with the time in UTC.

use crate::proto::date::write_rfc3339;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Begins to log. `level` is that of `--log`; without it RUST_LOG decides, and without that `warn`.
pub fn start(level: Option<log::LevelFilter>) {
    let mut builder = env_logger::Builder::new();
    match level {
        Some(level) => builder.filter_level(level),
        None => builder.parse_env(env_logger::Env::default().default_filter_or("warn")),
    };
    builder.format(|out, record| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut time = Vec::with_capacity(32);
        write_rfc3339(&mut time, i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_millis());
        out.write_all(&time)?;
        writeln!(out, " {:<5} {}", record.level(), record.args())
    });
    builder.init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        log::error!("defect: {thread} panicked at {place}");
    }));
}
