//! A disk under a server of ours that is slower than the one there is: a library that the server's process
//! loads lets every sync take longer.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use anyhow::{Context, bail};

/// Words of the control file, and the one for microseconds that each sync takes longer, as
/// `tests/shim/disk.c` has them.
const WORDS: usize = 16;
const SYNC_MICROS: usize = 10;

/// The variables of a process whose files below `folder` are on a slow disk.
pub(crate) fn environment(
    library: &Path,
    sync: Duration,
    folder: &Path,
) -> anyhow::Result<Vec<(&'static str, OsString)>> {
    let library = library
        .canonicalize()
        .with_context(|| format!("cannot find the library `{}`", library.display()))?;
    let folder = folder.canonicalize().context("cannot find the folder to measure in")?;
    let control = folder.join("disk-control");
    let mut words = [0_u32; WORDS];
    if let Some(word) = words.get_mut(SYNC_MICROS) {
        *word = u32::try_from(sync.as_micros())?;
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    fs::write(&control, bytes).context("cannot write what the library reads")?;
    Ok(vec![
        ("LD_PRELOAD", library.into()),
        ("DISK_SHIM_ROOT", folder.into()),
        ("DISK_SHIM_TRACE", "/dev/null".into()),
        ("DISK_SHIM_CONTROL", control.into()),
    ])
}

/// Makes sure that the process has loaded the library: a loader that cannot only warns.
///
/// # Errors
///
/// When it has not, or the system does not tell.
pub(crate) fn check(library: &Path, pid: u32) -> anyhow::Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
        .context("the system does not tell what the server has loaded")?;
    let library = library.canonicalize()?;
    if maps
        .lines()
        .any(|line| Path::new(line.split_whitespace().last().unwrap_or_default()) == library)
    {
        return Ok(());
    }
    bail!("the server did not load `{}`", library.display())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use super::{check, environment};

    #[test]
    fn the_control_file_holds_the_time_where_the_library_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("disk.so");
        assert!(environment(&library, Duration::ZERO, folder.path()).is_err());
        fs::write(&library, "").unwrap();
        let variables = environment(&library, Duration::from_millis(3), folder.path()).unwrap();
        let control = variables.iter().find(|it| it.0 == "DISK_SHIM_CONTROL").unwrap();
        let bytes = fs::read(&control.1).unwrap();
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[40..44], 3000_u32.to_ne_bytes());
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/disk.c"))
                .unwrap();
        let words = text.lines().skip_while(|it| !it.starts_with("struct control"));
        let words =
            words.take_while(|it| !it.starts_with('}')).filter(|it| it.contains("uint32_t"));
        assert_eq!(
            words.map(|it| it.contains(" sync_us;")).collect::<Vec<_>>().iter().position(|it| *it),
            Some(10)
        );
        assert!(check(&library, std::process::id()).is_err());
    }
}
