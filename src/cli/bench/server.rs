//! A server of our own: a child process with a folder of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
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
}

#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl ChildServer {
    pub(crate) async fn start(folder: WorkFolder) -> Result<Self, Failure> {
        let data = folder.path().join("data");
        let spawned = tokio::task::spawn_blocking(move || spawn(&data)).await;
        let (process, address) = spawned.map_err(|panic| Failure::Local(panic.into()))??;
        Ok(Self { process, address, folder })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub(crate) async fn stop(mut self) -> Done {
        self.process.terminate().await
    }
}

impl Process {
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

/// Starts a server and waits for its address.
fn spawn(data: &Path) -> anyhow::Result<(Process, String)> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(data);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(ENV_PREFIX) {
            command.env_remove(name);
        }
    }
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

/// From spawning until a stored event has been read, after a stop and after a crash.
pub(crate) async fn start_up(server: &mut ChildServer) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for (what, crash) in [("after a stop", false), ("after a crash", true)] {
        if crash {
            server.process.0.kill().context("cannot end the server")?;
            server.process.0.wait().context("cannot wait for the server")?;
        } else {
            server.process.terminate().await?;
        }
        let data = server.folder.path().join("data");
        let begin = Instant::now();
        let spawned = tokio::task::spawn_blocking(move || spawn(&data)).await;
        let (process, address) = spawned.map_err(|panic| Failure::Local(panic.into()))??;
        server.process = process;
        server.address.clone_from(&address);
        let request = pb::GetEventRequest {
            key: Some(pb::get_event_request::Key::Position(1)),
            ..Default::default()
        };
        Connection::open(&address).await?.events().get_event(request).await?;
        let millis = begin.elapsed().as_secs_f64() * 1000.0;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{WorkFolder, cpu_time, parse_cpu_time};

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
