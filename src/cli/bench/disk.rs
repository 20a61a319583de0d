//! What the disk alone allows: writes of a plain file, each followed by `fdatasync`.

use std::{
    fs::File,
    io::{Seek, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::cli::bench::figures::{Figure, Times, float};

/// Bytes of one event.
pub(super) const EVENT_BYTES: f64 = 1_200.0;
/// One event, a batch of a hundred.
const WRITE_BYTES: [usize; 2] = [1_200, 120_000];
/// How figures that overwrite begin.
pub(super) const OVERWRITE: &str = "overwrite";
/// Bytes of the file that is overwritten, from its beginning again once its end is reached.
const FILE_BYTES: usize = 64 * 1024 * 1024;

pub(crate) fn run(folder: &Path, seconds: u64) -> anyhow::Result<Vec<Figure>> {
    let path = folder.join("disk");
    let mut figures = Vec::new();
    for bytes in WRITE_BYTES {
        let mut file = File::create(&path).context("cannot create a file")?;
        figures.push(writes(&mut file, "append", bytes, None, seconds)?);
        let mut file = File::create(&path).context("cannot create a file")?;
        allocate(&mut file).context("cannot write")?;
        figures.push(writes(&mut file, OVERWRITE, bytes, Some(FILE_BYTES), seconds)?);
    }
    Ok(figures)
}

/// Writes the whole file once: its blocks are then allocated and need no journal of the file
/// system's.
fn allocate(file: &mut File) -> std::io::Result<()> {
    let data = vec![0x5A; 1024 * 1024];
    for _ in 0..FILE_BYTES / data.len() {
        file.write_all(&data)?;
    }
    file.sync_all()?;
    file.rewind()
}

fn writes(
    file: &mut File,
    what: &str,
    bytes: usize,
    file_bytes: Option<usize>,
    seconds: u64,
) -> anyhow::Result<Figure> {
    let data = vec![0xA5; bytes];
    let mut times = Times::default();
    let mut left = file_bytes.unwrap_or(usize::MAX);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        if left < bytes {
            left = file_bytes.unwrap_or(usize::MAX);
            file.rewind().context("cannot write")?;
        }
        left -= bytes;
        let one = Instant::now();
        file.write_all(&data).and_then(|()| file.sync_data()).context("cannot write")?;
        times.add(one.elapsed());
    }
    let per_second = float(times.count()) / begin.elapsed().as_secs_f64();
    let bytes = bytes as u64;
    Ok(Figure::new("disk", format!("{what} {bytes} bytes, fdatasync"))
        .with("bytes", bytes)
        .value("per_s", per_second, "/s")
        .value("mb_per_s", per_second * float(bytes) / 1e6, "MB/s")
        .times(&mut times))
}
