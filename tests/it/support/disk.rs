//! A disk under the server that remembers every operation and fails on demand: `tests/shim/disk.c`,
//! preloaded.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use super::{root, server::Dir, skipped, tools::target};

/// `EIO`, `ENOSPC`: what a broken and a full disk say.
pub(crate) const EIO: u32 = 5;
pub(crate) const ENOSPC: u32 = 28;
/// As often as it is asked.
pub(crate) const ALWAYS: u32 = u32::MAX;

/// Words of the control file, as `struct control` of the shim has them.
const SYNC: u64 = 0;
const SPACE: u64 = 3;
const READ_ONLY: u64 = 6;
const NO_SYNC: u64 = 7;
const INJECTED: u64 = 8;
const HALT: u64 = 9;
const SYNC_MICROS: u64 = 10;
const CONTROL_BYTES: u64 = 64;

/// The disk below one directory.
pub(crate) struct Disk {
    library: &'static Path,
    root: PathBuf,
    trace: PathBuf,
    control_path: PathBuf,
    control: File,
}

impl Disk {
    /// A disk that works, below what this directory holds; `None`, and said so, where there is no C
    /// compiler.
    pub(crate) fn below(dir: &Dir) -> Option<Self> {
        let library = match library() {
            Ok(library) => library,
            Err(reason) => {
                skipped(&format!("no faults of the disk, no power cuts: {reason}"));
                return None;
            }
        };
        let (root, trace) = (dir.disk(), dir.path("trace"));
        let control_path = dir.path("control");
        let mut options = File::options();
        let control = options.create(true).truncate(false).read(true).write(true);
        let control = control.open(&control_path).unwrap();
        control.set_len(CONTROL_BYTES).unwrap();
        // A disk used before may have left some.
        let _ = fs::remove_file(&trace);
        Some(Self { library, root, trace, control_path, control })
    }

    /// The directory that the trace is about.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts the disk under a command; what kills it.
    pub(crate) fn under(&self, command: &mut Command) -> Halt {
        self.set(HALT, 0);
        command
            .env("LD_PRELOAD", self.library)
            .env("DISK_SHIM_ROOT", &self.root)
            .env("DISK_SHIM_TRACE", &self.trace)
            .env("DISK_SHIM_CONTROL", &self.control_path);
        Halt(self.control.try_clone().unwrap())
    }

    /// Everything that was done to the disk.
    pub(crate) fn trace(&self) -> &Path {
        &self.trace
    }

    /// How long the trace is by now.
    pub(crate) fn trace_bytes(&self) -> u64 {
        fs::metadata(&self.trace).unwrap().len()
    }

    /// After some more syncs, some fail.
    pub(crate) fn fail_syncs(&self, error: u32, after: u32, times: u32) {
        self.fail(SYNC, error, after, times);
    }

    /// After some more operations that take space, some fail.
    pub(crate) fn fail_space(&self, error: u32, after: u32, times: u32) {
        self.fail(SPACE, error, after, times);
    }

    /// Everything that changes anything fails, or no longer does.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.set(READ_ONLY, u32::from(read_only));
    }

    /// Syncs do nothing from now on, and say that they did.
    pub(crate) fn forget_syncs(&self) {
        self.set(NO_SYNC, 1);
    }

    /// Every sync takes so much longer from now on.
    pub(crate) fn slow_down(&self, sync: Duration) {
        self.set(SYNC_MICROS, u32::try_from(sync.as_micros()).unwrap());
    }

    /// The disk works again.
    pub(crate) fn mend(&self) {
        self.set(SYNC, 0);
        self.set(SPACE, 0);
        self.set_read_only(false);
    }

    /// Faults that the server has met.
    pub(crate) fn injected(&self) -> u32 {
        let mut word = [0; 4];
        self.control.read_exact_at(&mut word, INJECTED * 4).unwrap();
        u32::from_ne_bytes(word)
    }

    /// The error last: it is what turns the fault on.
    fn fail(&self, word: u64, error: u32, after: u32, times: u32) {
        self.set(word, 0);
        self.set(word + 1, after);
        self.set(word + 2, times);
        self.set(word, error);
    }

    fn set(&self, word: u64, value: u32) {
        set(&self.control, word, value);
    }
}

fn set(control: &File, word: u64, value: u32) {
    control.write_all_at(&value.to_ne_bytes(), word * 4).unwrap();
}

/// Kills the server on a disk between two operations, so that the trace is right to the last.
pub(crate) struct Halt(File);

impl Halt {
    pub(crate) fn now(&self) {
        set(&self.0, HALT, 1);
    }
}

/// The shim, compiled once.
fn library() -> Result<&'static Path, String> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    LIBRARY.get_or_init(compile).as_deref().map_err(Clone::clone)
}

fn compile() -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("the shim is for Linux".to_owned());
    }
    let folder = target().join("shim");
    fs::create_dir_all(&folder).unwrap();
    // Another test run may be loading the one that is there.
    let draft = folder.join(format!("disk.{}.so", std::process::id()));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&draft)
        .arg(root().join("tests/shim/disk.c"))
        .args(["-ldl", "-lpthread"])
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let library = folder.join("disk.so");
    fs::rename(draft, &library).unwrap();
    Ok(library)
}
