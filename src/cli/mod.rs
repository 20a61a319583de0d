//! The command line.

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let _ = crate::telemetry::start("info", crate::telemetry::LogFormat::Text);
    let args: Vec<String> = std::env::args().collect();
    let get = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let config = crate::config::Config {
        listen: get("--listen").map_or("127.0.0.1:7373", |s| s.as_str()).parse().unwrap(),
        data_dir: get("--data-dir").map_or("./milepost-data", |s| s.as_str()).into(),
        drain_timeout: std::time::Duration::from_secs(10),
        log: "info".into(),
        cache_bytes: 64 << 20,
        queue_bytes: 64 << 20,
    };
    match crate::server::run(&config) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
