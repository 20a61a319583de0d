//! Batches of events, read ahead by a thread of its own.

use tokio::sync::mpsc;

use crate::cli::append::{
    resume::EventMark,
    source::{Form, Place, Source, SourceEvent},
};

/// What the reader hands over, in the source's order.
#[derive(Debug)]
pub(crate) enum Item {
    /// Events for one request.
    Batch(Batch),
    /// An event that cannot be sent at all.
    Unsendable { line: u64, problem: String },
    /// The source cannot be read further.
    Broken(anyhow::Error),
}

/// Events for one request.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Each event's text.
    pub(crate) events: Vec<String>,
    /// Each event's line.
    pub(crate) lines: Vec<u64>,
    /// Where the source goes on after them.
    pub(crate) next: Place,
    /// The last event, to recognise it.
    pub(crate) last: EventMark,
    pub(crate) form: Option<Form>,
}

/// How large batches become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

/// Items read ahead of the sender: enough to keep reading and sending apart.
const ITEMS_AHEAD: usize = 2;

/// Starts reading. The thread ends with the source, or when the receiver is dropped.
pub(crate) fn start(mut source: Source, size: BatchSize) -> mpsc::Receiver<Item> {
    let (items, receiver) = mpsc::channel(ITEMS_AHEAD);
    let mut feed = Feed { items, size, open: Batch::default(), open_bytes: 0 };
    // Ends early when the run is over: nobody receives any more.
    tokio::task::spawn_blocking(move || feed.run(&mut source).is_ok());
    receiver
}

struct Feed {
    items: mpsc::Sender<Item>,
    size: BatchSize,
    /// The batch being filled.
    open: Batch,
    open_bytes: usize,
}

/// The receiver is gone.
struct Closed;

impl Feed {
    fn run(&mut self, source: &mut Source) -> Result<(), Closed> {
        loop {
            match source.next_event() {
                Ok(Some(event)) => self.take(event, source.form())?,
                Ok(None) => return self.flush(),
                Err(error) => {
                    self.flush()?;
                    return self.send(Item::Broken(error));
                }
            }
        }
    }

    fn take(&mut self, event: SourceEvent, form: Option<Form>) -> Result<(), Closed> {
        let SourceEvent { line, start, next, text } = event;
        let text = match text {
            Ok(text) => text,
            Err(problem) => {
                self.flush()?;
                return self.send(Item::Unsendable { line, problem });
            }
        };
        if self.open_bytes + text.len() > self.size.bytes_max {
            self.flush()?;
        }
        self.open_bytes += text.len();
        self.open.form = form;
        self.open.next = next;
        self.open.last = EventMark::new(start, &text);
        self.open.lines.push(line);
        self.open.events.push(text);
        if self.open.events.len() >= self.size.events_max { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        self.open_bytes = 0;
        if self.open.events.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.open);
        self.send(Item::Batch(batch))
    }

    fn send(&self, item: Item) -> Result<(), Closed> {
        self.items.blocking_send(item).map_err(|_item| Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchSize, Item, Source, start};

    async fn sizes(text: &str, size: BatchSize) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        std::fs::write(&path, text).unwrap();
        let mut items = start(Source::open(&path).unwrap(), size);
        let mut found = Vec::new();
        while let Some(item) = items.recv().await {
            found.push(match item {
                Item::Batch(batch) => format!("{:?}", batch.lines),
                Item::Unsendable { line, problem } => format!("{line} {problem}"),
                Item::Broken(error) => format!("{error:#}"),
            });
        }
        found
    }

    #[tokio::test]
    async fn batches_are_bounded_by_events_and_by_bytes() {
        let text = "1\n22\n333\n4444\n55555\n";
        let by = |events_max, bytes_max| BatchSize { events_max, bytes_max };
        assert_eq!(sizes(text, by(2, 100)).await, ["[1, 2]", "[3, 4]", "[5]"]);
        assert_eq!(sizes(text, by(9, 6)).await, ["[1, 2, 3]", "[4]", "[5]"]);
        assert_eq!(sizes(text, by(9, 1)).await, ["[1]", "[2]", "[3]", "[4]", "[5]"]);
        assert_eq!(sizes("[1, 2, 3", by(2, 9)).await.len(), 3);
    }
}
