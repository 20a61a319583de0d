//! The real binary as a child process.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Client, copy_below,
    disk::{Disk, Halt},
};

/// For a server to say something; an index of a large log takes a while.
const PATIENCE: Duration = Duration::from_mins(3);

/// A running server; ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Ends a process whose disk is traced.
    halt: Option<Halt>,
    // Held open: a server whose output nobody can take would fail to write to it.
    _output: BufReader<ChildStdout>,
    address: String,
    dir: Dir,
}

/// A data directory that outlives the servers on it, and their logs beside it; goes with the last that
/// holds it.
#[derive(Clone)]
pub(crate) struct Dir {
    temp: Arc<TempDir>,
    root: PathBuf,
    runs: Arc<AtomicU32>,
}

impl Dir {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// An empty one in memory, where the system has such a place: quicker.
    pub(crate) fn in_memory() -> Self {
        let temp = tempfile::tempdir_in("/dev/shm").or_else(|_absent| tempfile::tempdir());
        Self::of(temp.unwrap())
    }

    /// Another one that goes with this one.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self::at(Arc::clone(&self.temp), self.path(name))
    }

    fn of(temp: TempDir) -> Self {
        let root = temp.path().to_owned();
        Self::at(Arc::new(temp), root)
    }

    fn at(temp: Arc<TempDir>, root: PathBuf) -> Self {
        let dir = Self { temp, root, runs: Arc::default() };
        fs::create_dir_all(dir.disk()).unwrap();
        dir
    }

    /// What holds the store and nothing else.
    pub(crate) fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    /// Where the store is.
    pub(crate) fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    /// Leaves it there, with a copy of the store as it is now, for a look at what fails, unless
    /// [`Dir::remove`] is called. Returns where the copy is.
    pub(crate) fn keep(&self) -> PathBuf {
        std::mem::forget(self.clone());
        let copy = self.path("kept");
        fs::create_dir(&copy).unwrap();
        copy_below(&self.disk(), &copy);
        copy
    }

    /// Removes it, when no server is on it.
    pub(crate) fn remove(self) {
        fs::remove_dir_all(self.temp.path()).unwrap();
    }

    /// A place for other files of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn next_log(&self) -> PathBuf {
        self.path(&format!("log.{}", self.runs.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A command that would serve the directory.
pub(crate) fn serve_command(data: &Path, address: &str) -> Command {
    let mut command = milepost();
    command.args(["serve", "--listen", address, "--data-dir"]).arg(data);
    command
}

/// The binary under test, without settings from the environment. `MILEPOST_BINARY` names another one.
pub(crate) fn milepost() -> Command {
    let binary = std::env::var_os("MILEPOST_BINARY");
    let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_milepost").into()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILEPOST_") {
            command.env_remove(name);
        }
    }
    command
}

impl Server {
    /// A server on an empty store.
    pub(crate) fn start() -> Self {
        Self::start_on(Dir::new())
    }

    /// A server on a store that may hold something; returns once it takes calls.
    pub(crate) fn start_on(dir: Dir) -> Self {
        Self::start_at(dir, "127.0.0.1:0")
    }

    /// The same, or what the server said instead of taking calls.
    pub(crate) fn try_start_on(dir: Dir) -> Result<Self, String> {
        let command = serve_command(&dir.data(), "127.0.0.1:0");
        Self::try_spawn(dir, command)
    }

    /// The same at an address that clients know already.
    pub(crate) fn start_at(dir: Dir, address: &str) -> Self {
        let command = serve_command(&dir.data(), address);
        Self::spawn(dir, command)
    }

    /// A server on an empty store, with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        Self::start_on_with(Dir::new(), flags)
    }

    /// A server on a store that may hold something, with more flags.
    pub(crate) fn start_on_with(dir: Dir, flags: &[&str]) -> Self {
        let mut command = serve_command(&dir.data(), "127.0.0.1:0");
        command.args(flags);
        Self::spawn(dir, command)
    }

    /// A server on this disk, below which the directory is.
    pub(crate) fn start_under(dir: Dir, disk: &Disk) -> Self {
        Self::try_start_under(dir, disk).unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same with flags.
    pub(crate) fn start_under_with(dir: Dir, disk: &Disk, flags: &[&str]) -> Self {
        let started = Self::try_start_under_with(dir, disk, flags);
        started.unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same, or what the server said instead of taking calls.
    pub(crate) fn try_start_under(dir: Dir, disk: &Disk) -> Result<Self, String> {
        Self::try_start_under_with(dir, disk, &[])
    }

    /// The same with more flags.
    pub(crate) fn try_start_under_with(
        dir: Dir,
        disk: &Disk,
        flags: &[&str],
    ) -> Result<Self, String> {
        let mut command = serve_command(&dir.data(), "127.0.0.1:0");
        command.args(flags);
        let halt = disk.under(&mut command);
        let mut server = Self::try_spawn(dir, command)?;
        server.halt = Some(halt);
        Ok(server)
    }

    /// A server whose files cannot grow beyond this many KiB, as if the disk were full.
    pub(crate) fn start_on_small_disk(dir: Dir, file_kib_max: u32) -> Self {
        let serve = serve_command(&dir.data(), "127.0.0.1:0");
        let mut command = Command::new("bash");
        // A write beyond the limit then fails instead of ending the process.
        let limited = format!("trap '' XFSZ; ulimit -f {file_kib_max}; exec \"$@\"");
        command.args(["-c", &limited, "bash"]).arg(serve.get_program()).args(serve.get_args());
        for (name, value) in serve.get_envs() {
            assert!(value.is_none());
            command.env_remove(name);
        }
        Self::spawn(dir, command)
    }

    /// A server whose data directory is a small disk of its own, in memory, that ends with it; or why
    /// there can be none.
    pub(crate) fn start_on_own_disk(mib: usize, flags: &[&str]) -> Result<Self, String> {
        let dir = Dir::new();
        fs::create_dir(dir.data()).unwrap();
        let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && exec \"$@\"");
        let on_own_disk = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "bash", "-c", &mount]);
            command.arg(dir.data());
            command
        };
        let tried = on_own_disk().arg("true").output().map_err(|error| error.to_string())?;
        if !tried.status.success() {
            return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
        }
        let serve = serve_command(&dir.data(), "127.0.0.1:0");
        let mut command = on_own_disk();
        command.arg(serve.get_program()).args(serve.get_args()).args(flags);
        for (name, _) in serve.get_envs() {
            command.env_remove(name);
        }
        Ok(Self::spawn(dir, command))
    }

    /// The data directory as the server sees it.
    pub(crate) fn own_disk(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(self.dir.data().strip_prefix("/").unwrap())
    }

    /// A new connection, once the server takes one.
    pub(crate) async fn client_when_free(&self) -> Client {
        loop {
            let client = self.client().await;
            if client.status().await.is_ok() {
                return client;
            }
        }
    }

    fn spawn(dir: Dir, command: Command) -> Self {
        Self::try_spawn(dir, command).unwrap_or_else(|said| panic!("{said}"))
    }

    fn try_spawn(dir: Dir, mut command: Command) -> Result<Self, String> {
        let log = dir.next_log();
        let mut child =
            command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (first, said) = sync_channel(1);
        // On a thread of its own: a server on damaged files may do neither, serve nor end.
        thread::spawn(move || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            drop(first.send((line, output)));
        });
        let Ok((line, output)) = said.recv_timeout(PATIENCE) else {
            child.kill().unwrap();
            child.wait().unwrap();
            let log = fs::read_to_string(&log).unwrap();
            return Err(format!("the server hangs: it said nothing for {PATIENCE:?}: {log}"));
        };
        let Some(address) = line.trim_end().strip_prefix("milepost listening on ") else {
            let status = child.wait().unwrap();
            let log = fs::read_to_string(&log).unwrap();
            return Err(format!("server said `{line}`, {status}: {log}"));
        };
        let address = address.to_owned();
        Ok(Self { child, halt: None, _output: output, address, dir })
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The store's directory.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// A new connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address).await
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn kill(mut self) -> Dir {
        match &self.halt {
            Some(halt) => halt.now(),
            None => self.child.kill().unwrap(),
        }
        self.child.wait().unwrap();
        self.dir.clone()
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        let status =
            Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -TERM: {status}");
    }

    /// Waits for the process to end. Elsewhere than on the runtime's thread, whose clients must still
    /// hear that the server closes their connections.
    pub(crate) async fn wait(self) -> (ExitStatus, Dir) {
        let waiting = tokio::task::spawn_blocking(|| {
            let mut server = self;
            let status = server.child.wait().unwrap();
            (status, server.dir.clone())
        });
        waiting.await.unwrap()
    }

    /// Ends the process in order.
    pub(crate) async fn stop(self) -> Dir {
        self.terminate();
        let (status, dir) = self.wait().await;
        assert!(status.success(), "{status}");
        dir
    }

    /// What the newest server on this directory has logged.
    pub(crate) fn log(&self) -> String {
        let newest = self.dir.runs.load(Ordering::Relaxed) - 1;
        fs::read_to_string(self.dir.path(&format!("log.{newest}"))).unwrap()
    }

    /// Bytes of memory that the process holds now, and held at most.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended before; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
