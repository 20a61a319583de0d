//! A server of our own: a child process with a folder of its own.

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use tokio::time::sleep;

use crate::{
    cli::{
        bench::figures::Figure,
        failure::{Done, Failure},
    },
    config::ENV_PREFIX,
    grpc::{client::Connection, pb},
};

/// How long a server may take to stop; what it holds is thrown away anyhow.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);
/// Linux counts processor time in hundredths of a second, whatever its timer does.
const TICKS_PER_SECOND: u64 = 100;
/// The unit of a file's blocks, whatever the file system's is.
const STAT_BLOCK_BYTES: u64 = 512;

/// A folder that did not exist before and does not afterwards.
#[derive(Debug)]
pub(crate) struct WorkFolder(PathBuf);

impl WorkFolder {
    pub(crate) fn create(parent: &Path) -> anyhow::Result<Self> {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let path = parent.join(format!("milepost-bench-{unique}"));
        fs::create_dir(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _already_gone = fs::remove_dir_all(&self.0);
    }
}

/// A server that is stopped when dropped.
#[derive(Debug)]
pub(crate) struct ChildServer {
    // Before the folder: the process must be gone before its files are.
    process: Process,
    address: String,
    folder: WorkFolder,
    environment: Environment,
}

/// Variables of a server's process.
pub(crate) type Environment = Vec<(&'static str, OsString)>;

/// This program as a child, ended when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl ChildServer {
    pub(crate) async fn start(folder: WorkFolder) -> Result<Self, Failure> {
        Self::start_with(folder, Environment::new()).await
    }

    pub(crate) async fn start_with(
        folder: WorkFolder,
        environment: Environment,
    ) -> Result<Self, Failure> {
        let (process, address) = serve(&folder.path().join("data"), &environment).await?;
        Ok(Self { process, address, folder, environment })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends the server, at once or in order, and starts it again. Tells the time from starting it
    /// until a stored event has been read.
    pub(crate) async fn restart(&mut self, crash: bool) -> Result<Duration, Failure> {
        if crash {
            self.process.0.kill().context("cannot end the server")?;
            self.process.0.wait().context("cannot wait for the server")?;
        } else {
            self.process.terminate().await?;
        }
        let begin = Instant::now();
        (self.process, self.address) = serve(&self.data(), &self.environment).await?;
        let request = pb::GetEventRequest {
            key: Some(pb::get_event_request::Key::Position(1)),
            ..Default::default()
        };
        Connection::open(&self.address).await?.events().get_event(request).await?;
        Ok(begin.elapsed())
    }

    pub(crate) async fn stop(mut self) -> Done {
        self.process.terminate().await
    }
}

impl Process {
    /// Starts this program with these arguments and waits for the address that it prints.
    pub(crate) async fn start(arguments: Vec<OsString>) -> Result<(Self, String), Failure> {
        Self::start_with(arguments, Environment::new()).await
    }

    async fn start_with(
        arguments: Vec<OsString>,
        environment: Environment,
    ) -> Result<(Self, String), Failure> {
        let spawned = tokio::task::spawn_blocking(move || spawn(&arguments, environment)).await;
        Ok(spawned.map_err(|panic| Failure::Local(panic.into()))??)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks the process to end, and waits for it.
    async fn terminate(&mut self) -> Done {
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        let asked = asked.is_ok_and(|status| status.success());
        let begin = Instant::now();
        loop {
            match self.0.try_wait().context("cannot wait for the server")? {
                Some(status) if status.success() || !asked => return Ok(()),
                Some(status) => return Err(anyhow!("the server ended with {status}").into()),
                None if !asked || begin.elapsed() > STOP_TIMEOUT => {
                    self.0.kill().context("cannot end the server")?;
                }
                None => sleep(POLL).await,
            }
        }
    }
}

/// Starts a server of events with this data directory.
async fn serve(data: &Path, environment: &Environment) -> Result<(Process, String), Failure> {
    let fixed = ["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"];
    let mut arguments: Vec<OsString> = fixed.map(OsString::from).into();
    arguments.push(data.into());
    Process::start_with(arguments, environment.clone()).await
}

fn spawn(arguments: &[OsString], environment: Environment) -> anyhow::Result<(Process, String)> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(ENV_PREFIX) {
            command.env_remove(name);
        }
    }
    command.envs(environment);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = Process(child.context("cannot start a server")?);
    let Some(stdout) = process.0.stdout.take() else { bail!("the server has no output") };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let Some((_, address)) = line.trim().split_once("listening on ") else {
        bail!("the server did not start: it printed `{}`", line.trim());
    };
    let address = address.to_owned();
    Ok((process, address))
}

/// From starting until a stored event has been read, after a stop and after a crash.
pub(crate) async fn start_up(server: &mut ChildServer) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for (what, crash) in [("after a stop", false), ("after a crash", true)] {
        let millis = server.restart(crash).await?.as_secs_f64() * 1000.0;
        figures.push(Figure::new("start", what).value("ms", millis, "ms until a first read"));
    }
    Ok(figures)
}

/// Processor time that a process has used. `None` where the system does not tell.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    parse_cpu_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything; fields count from behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// Bytes of memory that a process holds, shared pages counted in proportion.
pub(crate) fn memory_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    /// The most since it started.
    pub(crate) peak: u64,
}

/// Zeros where the system does not tell.
pub(crate) fn resident_bytes(pid: u32) -> Resident {
    parse_resident(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}

fn parse_resident(status: &str) -> Resident {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Resident { now: bytes("VmRSS:").unwrap_or_default(), peak: bytes("VmHWM:").unwrap_or_default() }
}

/// Bytes that the files below a folder take from the disk.
pub(crate) fn allocated_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata().and_then(|metadata| {
            let own = metadata.blocks() * STAT_BLOCK_BYTES;
            let below = if metadata.is_dir() { allocated_bytes(&entry.path())? } else { 0 };
            Ok(own + below)
        });
        match found {
            Ok(found) => bytes += found,
            // The server is running and removes files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{WorkFolder, allocated_bytes, cpu_time, parse_cpu_time, parse_resident};

    #[test]
    fn resident_memory_is_in_bytes() {
        let found = parse_resident("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n");
        assert_eq!((found.now, found.peak), (1024 * 1024, 2048 * 1024));
        assert_eq!(parse_resident("").now, 0);
    }

    #[test]
    fn allocated_bytes_are_those_of_every_file_below() {
        let folder = tempfile::tempdir().unwrap();
        let before = allocated_bytes(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/file"), vec![1; 100_000]).unwrap();
        assert!(allocated_bytes(folder.path()).unwrap() >= before + 100_000);
    }

    #[test]
    fn processor_time_is_user_and_system_time() {
        let stat = "12 (a b) c) S 1 1 1 0 -1 4 100 0 0 0 250 50 7 7 20 0 3 0 100";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_cpu_time(""), None);
        assert!(cpu_time(std::process::id()).is_some());
    }

    #[test]
    fn a_work_folder_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let folder = WorkFolder::create(parent.path()).unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        drop(folder);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
