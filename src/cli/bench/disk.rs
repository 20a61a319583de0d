//! What the disk alone allows: append and fdatasync of a plain file.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::cli::bench::figures::{Figure, Times, float};

/// One event, a batch of a hundred.
const WRITE_BYTES: [usize; 2] = [1_200, 120_000];

pub(crate) fn run(folder: &Path, seconds: u64) -> anyhow::Result<Vec<Figure>> {
    WRITE_BYTES.into_iter().map(|bytes| appends(folder, bytes, seconds)).collect()
}

fn appends(folder: &Path, bytes: usize, seconds: u64) -> anyhow::Result<Figure> {
    let path = folder.join(format!("append-{bytes}"));
    let mut file = File::create(&path).context("cannot create a file")?;
    let data = vec![0x5A; bytes];
    let mut times = Times::default();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        let one = Instant::now();
        file.write_all(&data).and_then(|()| file.sync_data()).context("cannot write")?;
        times.add(one.elapsed());
    }
    let per_second = float(times.count()) / begin.elapsed().as_secs_f64();
    let bytes = bytes as u64;
    Ok(Figure::new("disk", format!("append {bytes} bytes, fdatasync"))
        .with("bytes", bytes)
        .value("per_s", per_second, "/s")
        .value("mb_per_s", per_second * float(bytes) / 1e6, "MB/s")
        .times(&mut times))
}
