//! The `milepost` binary: wiring only.

fn main() -> std::process::ExitCode {
    milepost::cli::main()
}
