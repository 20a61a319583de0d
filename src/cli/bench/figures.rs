//! Figures: times of calls, processor time, and how they are printed.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::cli::{
    bench::server,
    failure::Done,
    output::{Output, thousands},
};

/// One line of results.
#[derive(Debug)]
pub(crate) struct Figure {
    phase: &'static str,
    what: String,
    /// What was asked for.
    given: Vec<(&'static str, u64)>,
    /// What was found: name with its unit, number, words.
    found: Vec<(&'static str, f64, &'static str)>,
}

impl Figure {
    pub(crate) fn new(phase: &'static str, what: impl Into<String>) -> Self {
        Self { phase, what: what.into(), given: Vec::new(), found: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, number: u64) -> Self {
        self.given.push((name, number));
        self
    }

    pub(crate) fn value(mut self, name: &'static str, number: f64, words: &'static str) -> Self {
        self.found.push((name, number, words));
        self
    }

    /// Adds the usual quantiles.
    pub(crate) fn times(self, times: &mut Times) -> Self {
        self.value("p50_us", times.quantile_us(0.5), "us p50")
            .value("p99_us", times.quantile_us(0.99), "us p99")
            .value("p999_us", times.quantile_us(0.999), "us p99.9")
    }

    /// Adds the server's processor time, where it is known.
    pub(crate) fn cpu(self, meter: &Meter, count: u64) -> Self {
        match meter.cpu_us() {
            Some(used) if count > 0 => {
                self.value("server_cpu_us", used / float(count), "us server CPU each")
            }
            _ => self,
        }
    }

    pub(crate) fn is(&self, phase: &str) -> bool {
        self.phase == phase
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// A number that was given or found.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let given = self.given.iter().find(|it| it.0 == name).map(|it| float(it.1));
        given.or_else(|| self.found.iter().find(|it| it.0 == name).map(|it| it.1))
    }

    pub(crate) fn print(&self, output: &mut Output) -> Done {
        output.show(&self.to_json(), || self.to_text())?;
        output.flush()
    }

    fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("phase".into(), self.phase.into());
        fields.insert("what".into(), self.what.as_str().into());
        fields.extend(self.given.iter().map(|(name, number)| ((*name).into(), (*number).into())));
        let found = self.found.iter();
        fields.extend(found.map(|(name, number, _)| ((*name).to_owned(), rounded(*number).into())));
        Value::Object(fields)
    }

    fn to_text(&self) -> String {
        let found =
            self.found.iter().map(|(_, number, words)| format!("{} {words}", show(*number)));
        let found = found.collect::<Vec<_>>().join("  ");
        format!("{:<9} {:<28} {found}", self.phase, self.what)
    }
}

/// Small numbers are ratios and need more digits.
fn rounded(number: f64) -> f64 {
    let steps = if number.abs() < 10.0 { 1000.0 } else { 10.0 };
    (number * steps).round() / steps
}

/// A number in three digits or more.
fn show(number: f64) -> String {
    if number.abs() < 100.0 {
        return format!("{number:>7.2}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are positive and far below 2^53"
    )]
    let whole = number.round() as u64;
    format!("{:>7}", thousands(whole))
}

/// Nothing here comes near 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement are small")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A quotient; 0 when there is nothing to divide by.
pub(crate) fn ratio(count: u64, by: u64) -> f64 {
    if by == 0 { 0.0 } else { float(count) / float(by) }
}

/// Times of single calls, all of them kept: a run has at most some hundred thousand.
#[derive(Debug, Default)]
pub(crate) struct Times {
    nanos: Vec<u64>,
    sorted: bool,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.nanos.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.sorted = false;
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.nanos.extend(other.nanos);
        self.sorted = false;
    }

    pub(crate) fn count(&self) -> u64 {
        self.nanos.len() as u64
    }

    /// The smallest time that at least this part of the calls did not exceed, in microseconds.
    pub(crate) fn quantile_us(&mut self, part: f64) -> f64 {
        if !self.sorted {
            self.nanos.sort_unstable();
            self.sorted = true;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a count, at least 0"
        )]
        let rank = (part * float(self.count())).ceil() as usize;
        float(self.nanos.get(rank.saturating_sub(1)).copied().unwrap_or(0)) / 1000.0
    }
}

/// Time that passes, for us and on the server's processor.
pub(crate) struct Meter {
    pid: Option<u32>,
    cpu_before: Option<Duration>,
    start: Instant,
}

impl Meter {
    pub(crate) fn start(pid: Option<u32>) -> Self {
        Self { pid, cpu_before: pid.and_then(server::cpu_time), start: Instant::now() }
    }

    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn per_second(&self, count: u64) -> f64 {
        float(count) / self.seconds()
    }

    /// Processor time that the server has used, in microseconds.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        let used = self.pid.and_then(server::cpu_time)?.checked_sub(self.cpu_before?)?;
        Some(used.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Figure, Times};

    #[test]
    fn quantiles_are_times_that_occurred() {
        let mut times = Times::default();
        for micros in [5, 1, 4, 2, 3, 6, 7, 8, 9, 10] {
            times.add(Duration::from_micros(micros));
        }
        let found = [0.0, 0.5, 0.51, 0.9, 0.99, 1.0].map(|part| times.quantile_us(part));
        assert!(
            found.iter().zip([1.0, 5.0, 6.0, 9.0, 10.0, 10.0]).all(|(a, b)| (a - b).abs() < 0.01)
        );
        assert!(Times::default().quantile_us(0.5).abs() < 0.01);
    }

    #[test]
    fn a_figure_is_one_line_either_way() {
        let figure = Figure::new("ingest", "batch 10, 8 clients")
            .with("batch", 10)
            .value("events_per_s", 12_345.67, "events/s")
            .value("p50_us", 1.5, "us p50");
        let json = r#"{"batch":10,"events_per_s":12345.7,"p50_us":1.5,"phase":"ingest","what":"batch 10, 8 clients"}"#;
        assert_eq!(figure.to_json().to_string(), json);
        let text = "ingest    batch 10, 8 clients           12 346 events/s     1.50 us p50";
        assert_eq!(figure.to_text(), text);
    }
}
