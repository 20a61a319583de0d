//! Appends beside what the machine allows: the same batches echoed, and the disk's own times.

use crate::cli::bench::{
    disk::{EVENT_BYTES, OVERWRITE},
    figures::Figure,
    options::Cell,
};

/// For each cell of `ingest` whose batches were also echoed: the part of the echo's rate that it
/// reaches. For one client with single events, besides: its median time beside the sum of the
/// medians of an echo and of writing one event to the disk.
pub(crate) fn ratios(figures: &[Figure]) -> Vec<Figure> {
    let mut found = Vec::new();
    for ingest in figures.iter().filter(|it| it.is("ingest")) {
        let same = |it: &&Figure| it.is("echo") && it.what() == ingest.what();
        let Some(echo) = figures.iter().find(same) else { continue };
        if let Some(ratio) = rate(ingest, echo) {
            found.push(ratio);
        }
        if ingest.what() == (Cell { batch: 1, clients: 1 }).to_string() {
            found.extend(figures.iter().filter_map(|disk| time(ingest, echo, disk)));
        }
    }
    found
}

fn rate(ingest: &Figure, echo: &Figure) -> Option<Figure> {
    let (own, most) = (ingest.get("events_per_s")?, echo.get("events_per_s")?);
    (most > 0.0).then(|| {
        Figure::new("ceiling", ingest.what())
            .value("events_per_s", own, "events/s")
            .value("echo_events_per_s", most, "echoed events/s")
            .value("rate_ratio", own / most, "of the echo's rate")
    })
}

fn time(ingest: &Figure, echo: &Figure, disk: &Figure) -> Option<Figure> {
    if !disk.is("disk") || disk.get("bytes")?.total_cmp(&EVENT_BYTES).is_ne() {
        return None;
    }
    let (own, echo, write) = (ingest.get("p50_us")?, echo.get("p50_us")?, disk.get("p50_us")?);
    let sum = echo + write;
    let mode = if disk.what().starts_with(OVERWRITE) { "overwriting" } else { "growing" };
    (sum > 0.0).then(|| {
        Figure::new("ceiling", format!("{}, {mode}", ingest.what()))
            .value("p50_us", own, "us p50")
            .value("echo_p50_us", echo, "us echo p50")
            .value("disk_p50_us", write, "us disk p50")
            .value("sum_p50_us", sum, "us echo and disk")
            .value("time_ratio", own / sum, "times that")
    })
}
