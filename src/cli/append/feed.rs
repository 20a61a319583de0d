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
    tokio::task::spawn_blocking(move || {
        let mut open = Batch::default();
        let mut open_bytes = 0;
        loop {
            let event = match source.next_event() {
                Ok(event) => event,
                Err(error) => {
                    let _closed = flush(&items, &mut open);
                    let _closed = items.blocking_send(Item::Broken(error));
                    return;
                }
            };
            let Some(SourceEvent { line, start, next, text }) = event else {
                let _closed = flush(&items, &mut open);
                return;
            };
            let sent = match text {
                Ok(text) => {
                    let full = open_bytes + text.len() > size.bytes_max;
                    let sent = if full { flush(&items, &mut open) } else { Ok(()) };
                    open_bytes = if full { text.len() } else { open_bytes + text.len() };
                    open.last = EventMark::new(start, &text);
                    open.form = source.form();
                    open.next = next;
                    open.lines.push(line);
                    open.events.push(text);
                    sent
                }
                Err(problem) => flush(&items, &mut open)
                    .and_then(|()| send(&items, Item::Unsendable { line, problem })),
            };
            let sent = if open.events.len() >= size.events_max {
                open_bytes = 0;
                sent.and_then(|()| flush(&items, &mut open))
            } else {
                sent
            };
            if sent.is_err() {
                return; // the run is over
            }
        }
    });
    receiver
}

/// The receiver is gone.
struct Closed;

fn flush(items: &mpsc::Sender<Item>, open: &mut Batch) -> Result<(), Closed> {
    if open.events.is_empty() {
        return Ok(());
    }
    send(items, Item::Batch(std::mem::take(open)))
}

fn send(items: &mpsc::Sender<Item>, item: Item) -> Result<(), Closed> {
    items.blocking_send(item).map_err(|_item| Closed)
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
