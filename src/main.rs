//! The `milepost` binary: wiring only.

/// The system's allocator keeps for each thread what was freed there: with many events in small pieces,
/// made by one thread and freed by another, a server with ten million of them had twice the memory,
/// and took half as long again for each new one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for huge pages, which are resident as a whole once a byte of them is used: half of
    // a server's memory, for nothing that shows in its speed. Where the kernel refuses, memory is larger.
    let _refused = rustix::thread::disable_transparent_huge_pages(true);
    milepost::cli::main()
}
