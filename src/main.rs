//! The `milepost` binary: wiring only.

/// The system's allocator keeps for each thread what was freed there: with many events in small pieces,
/// made by one thread and freed by another, a server with ten million of them had twice the memory,
/// and took half as long again for each new one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    milepost::cli::main()
}
