//! `milepost append`.

mod feed;
mod resume;
mod sender;
mod source;
mod tally;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    cli::{
        append::{
            feed::{Batch, BatchSize, Item},
            resume::{Resume, ResumeFile},
            sender::Sender,
            tally::Tally,
        },
        args::ClientArgs,
        dataset::OnInvalid,
        failure::{Done, Failure},
        output::{self, Output},
    },
    grpc::{client::CallError, pb},
    model::limits,
};

pub(crate) use source::Source;

/// Append events from a file or from standard input.
///
/// Events are JSON: one per line, the elements of one array, or objects one after the other; the
/// first characters tell. Their order in the file is their order in the log. Running the same file
/// again is safe: the server recognises events by `_id` and counts them as duplicates.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Dataset that takes the events
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// File with events; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Whether a batch with an invalid event is refused as a whole, or each event stands alone
    #[arg(long, value_enum, default_value_t = Mode::Atomic)]
    mode: Mode,
    /// Events per request, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_EVENTS_MAX as i64))]
    batch: u32,
    /// Requests under way at once, 1 to 64. More than 1 does not keep the order of batches
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Check everything except duplicates, and store nothing
    #[arg(long)]
    validate_only: bool,
    /// What becomes of invalid events: what the dataset says, or something stricter
    #[arg(long, value_enum, value_name = "POLICY")]
    on_invalid: Option<OnInvalid>,
    /// Whether answers wait until events are durable, or only until they are written
    #[arg(long, value_enum, default_value_t)]
    durability: Durability,
    /// Go on after rejected events instead of stopping
    #[arg(long)]
    continue_on_error: bool,
    /// Seconds to try one batch while the server is busy or away, 0 to 86400
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=86_400))]
    retry_for: u32,
    /// Records in this file how far FILE is stored; a rerun goes on from there
    #[arg(long, value_name = "PATH", conflicts_with = "validate_only")]
    resume_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Atomic,
    PerEvent,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Durability {
    #[default]
    Sync,
    /// Where the server allows it
    Buffered,
}

/// Bytes of events per request; half of what a request may have, to leave room for the rest.
const BATCH_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX / 2;

pub(crate) async fn run(args: AppendArgs) -> Done {
    let source = open(&args)?;
    let connection = args.client.connect().await?;
    let sender = Sender {
        client: connection.events(),
        dataset: args.dataset.clone(),
        mode: match args.mode {
            Mode::Atomic => pb::AppendMode::Atomic,
            Mode::PerEvent => pb::AppendMode::PerEvent,
        },
        validate_only: args.validate_only,
        on_invalid: args.on_invalid.map(pb::OnInvalid::from).unwrap_or_default(),
        durability: match args.durability {
            Durability::Sync => pb::Durability::Sync,
            Durability::Buffered => pb::Durability::Buffered,
        },
        patience: Duration::from_secs(args.retry_for.into()),
    };
    let mut output = Output::new(args.client.output);
    let mut append = Appending {
        tally: Tally::new(source.name(), output.is_json()),
        progress: progress(&source),
        sender,
        stored: Stored::default(),
        resume: args.resume_file.clone().map(ResumeFile::new),
        args,
    };
    let size = BatchSize { events_max: append.args.batch as usize, bytes_max: BATCH_BYTES_MAX };
    let done = append.run(feed::start(source, size)).await;
    append.progress.finish_and_clear();
    // When nothing happened at all, the error alone says enough.
    if done.is_ok() || output.is_json() || append.tally.has_counted() {
        output.show(&append.tally.to_json(), || append.tally.to_text())?;
        output.flush()?;
    }
    done?;
    if append.tally.is_clean() { Ok(()) } else { Err(Failure::Incomplete) }
}

fn open(args: &AppendArgs) -> Result<Source, Failure> {
    match &args.resume_file {
        None => Ok(Source::open(&args.file)?),
        Some(_) if args.file == Path::new("-") => {
            Err(Failure::usage("standard input cannot be resumed; --resume-file needs a FILE"))
        }
        Some(path) => Ok(ResumeFile::new(path.clone()).open_source(&args.file, &args.dataset)?),
    }
}

fn progress(source: &Source) -> ProgressBar {
    let Some(bytes) = source.bytes_total().filter(|_| output::is_watched()) else {
        return ProgressBar::hidden();
    };
    let template = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One run over one source.
struct Appending {
    args: AppendArgs,
    sender: Sender,
    tally: Tally,
    progress: ProgressBar,
    stored: Stored,
    resume: Option<ResumeFile>,
}

type Answer = (u64, Batch, Result<pb::AppendEventsResponse, CallError>);

impl Appending {
    async fn run(&mut self, mut items: mpsc::Receiver<Item>) -> Done {
        let mut under_way: JoinSet<Answer> = JoinSet::new();
        let mut batches = 0;
        let mut done = Ok(());
        let mut reading = true;
        while reading || !under_way.is_empty() {
            let room = reading && under_way.len() < self.args.parallel as usize;
            tokio::select! {
                item = items.recv(), if room => match item {
                    None => reading = false,
                    Some(Item::Batch(batch)) => {
                        under_way.spawn(send(self.sender.clone(), batches, batch));
                        batches += 1;
                    }
                    Some(Item::Unsendable { line, problem }) => {
                        self.tally.unsendable(line, &problem);
                        self.stored.stop_at(batches);
                        reading = self.args.continue_on_error;
                    }
                    Some(Item::Broken(error)) => {
                        reading = false;
                        done = Err(error.into());
                    }
                },
                Some(answer) = under_way.join_next() => {
                    let answer = answer.map_err(|panic| Failure::Local(panic.into()))?;
                    match self.answered(answer) {
                        Ok(Verdict::GoOn) => (),
                        Ok(Verdict::Stop) => reading = false,
                        Err(failure) => {
                            reading = false;
                            done = done.and(Err(failure));
                        }
                    }
                }
            }
        }
        done
    }

    fn answered(&mut self, (number, batch, answer): Answer) -> Result<Verdict, Failure> {
        let before = self.tally.counts.rejected;
        match answer {
            Ok(response) => self.tally.answered(&batch.lines, &response),
            Err(error) if is_about_events(&error) => self.tally.refused(&batch.lines, &error),
            Err(error) => return Err(error.into()),
        }
        if self.tally.counts.rejected > before {
            self.stored.stop_at(number);
            let stop = !self.args.continue_on_error;
            return Ok(if stop { Verdict::Stop } else { Verdict::GoOn });
        }
        self.progress.set_position(self.progress.position().max(batch.next.offset));
        let last = self.stored.add(number, batch);
        if let (Some(file), Some(Batch { form: Some(form), next, last, .. })) = (&self.resume, last)
        {
            file.write(&Resume { dataset: self.args.dataset.clone(), form, next, last })?;
        }
        Ok(Verdict::GoOn)
    }
}

enum Verdict {
    GoOn,
    Stop,
}

async fn send(sender: Sender, number: u64, mut batch: Batch) -> Answer {
    let events = std::mem::take(&mut batch.events);
    let answer = sender.append(events).await;
    (number, batch, answer)
}

/// Whether the error tells of this batch's events, so that other batches may do better.
fn is_about_events(error: &CallError) -> bool {
    matches!(
        error.reason.as_str(),
        "EVENT_INVALID"
            | "EVENT_VIOLATES_SCHEMA"
            | "EVENT_ID_CONFLICT"
            | "BATCH_TOO_LARGE"
            | "REQUEST_TOO_LARGE"
    )
}

/// Batches stored out of order, until those before them are.
///
/// Invariant: every batch before `next` is stored; none from `end` on counts.
#[derive(Default)]
struct Stored {
    next: u64,
    end: Option<u64>,
    early: BTreeMap<u64, Batch>,
}

impl Stored {
    /// Returns the last batch of the unbroken row, if it has grown.
    fn add(&mut self, number: u64, batch: Batch) -> Option<Batch> {
        if self.end.is_some_and(|end| number >= end) {
            return None;
        }
        self.early.insert(number, batch);
        let mut last = None;
        while self.end.is_none_or(|end| self.next < end) {
            let Some(batch) = self.early.remove(&self.next) else { break };
            self.next += 1;
            last = Some(batch);
        }
        last
    }

    /// This batch is not stored: the row ends before it.
    fn stop_at(&mut self, number: u64) {
        self.end = Some(self.end.map_or(number, |end| end.min(number)));
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Stored};

    fn batch(line: u64) -> Batch {
        Batch { lines: vec![line], ..Batch::default() }
    }

    #[test]
    fn the_unbroken_row_grows_in_order_and_ends_at_a_rejection() {
        let mut stored = Stored::default();
        let mut add = |number, expected: Option<u64>| {
            let last = stored.add(number, batch(number)).map(|it| it.lines[0]);
            assert_eq!(last, expected, "batch {number}");
        };
        add(1, None);
        add(2, None);
        add(0, Some(2));
        add(3, Some(3));
        stored.stop_at(5);
        let mut add = |number| stored.add(number, batch(number)).map(|it| it.lines[0]);
        assert_eq!([add(6), add(4), add(7)], [None, Some(4), None]);
    }
}
