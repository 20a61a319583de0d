//! Parked events: listed, exported, watched.

use std::mem::discriminant;

use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    delivery::{Parked, ParkedBy, ParkedChange, ParkedState},
    grpc::{
        from_proto::{enumeration, time_range},
        pb, subscriptions, to_proto,
    },
    model::{Invalid, Position, limits},
    store::{
        Error, EventStore, ParkedEvent, ParkedFilter, ParkedMessage, ParkedNews, ParkedSelector,
        ParkedWatch,
    },
};

/// `field` is where it stands.
pub(crate) fn filter(field: &str, filter: Option<pb::ParkedFilter>) -> Result<ParkedFilter, Error> {
    use pb::parked_event::By;
    let filter = filter.unwrap_or_default();
    let mut parked_by = Vec::new();
    for (index, by) in filter.parked_by.into_iter().enumerate() {
        let at = format!("{field}.parked_by[{index}]");
        let by = match enumeration(&at, by)? {
            By::Unspecified => return Err(Error::invalid(at, "not set")),
            By::ServerMaxAttempts => ParkedBy::MaxAttempts,
            By::Client => ParkedBy::Client,
            By::NoLane => ParkedBy::NoLane,
            By::Convoy => ParkedBy::Convoy(Position::START),
        };
        parked_by.push(discriminant(&by));
    }
    let time = time_range(&format!("{field}.park_time"), filter.park_time);
    let (by, reason) = (parked_by, filter.reason_contains);
    Ok(ParkedFilter { by, reason, time: time.map_err(Error::Invalid)? })
}

pub(crate) fn selector(selector: Option<pb::ParkedSelector>) -> Result<ParkedSelector, Error> {
    let selector = selector.unwrap_or_default();
    let (found, most) = (selector.positions.len(), limits::PARKED_CHANGE_MAX);
    if found > most {
        let message = format!("{found} positions; at most {most}");
        return Err(Error::OutOfBounds(Invalid::new("selector.positions", message)));
    }
    if found > 0 {
        if selector.filter.is_some() {
            return Err(Error::invalid("selector.filter", "set together with `positions`"));
        }
        let positions = selector.positions.into_iter().map(Position::new);
        return Ok(ParkedSelector::Positions(positions.collect()));
    }
    let limit = usize::try_from(selector.limit).unwrap_or(usize::MAX);
    let filter = filter("selector.filter", selector.filter)?;
    Ok(ParkedSelector::First(filter, if limit == 0 { most } else { limit }))
}

pub(crate) fn event(
    parked: ParkedEvent,
    format: pb::PayloadFormat,
) -> Result<pb::ParkedEvent, Error> {
    let payload_differs = parked.payload_differs();
    let event = parked.event.map(|it| to_proto::recorded_event(it, format)).transpose()?;
    Ok(pb::ParkedEvent { event, payload_differs, ..record(parked.position, &parked.parked) })
}

/// What is known of a parked event, without the event.
fn record(position: Position, it: &Parked) -> pb::ParkedEvent {
    use pb::parked_event::By;
    let (by, behind) = match it.by {
        ParkedBy::MaxAttempts => (By::ServerMaxAttempts, 0),
        ParkedBy::Client => (By::Client, 0),
        ParkedBy::NoLane => (By::NoLane, 0),
        ParkedBy::Convoy(behind) => (By::Convoy, behind.get()),
    };
    pb::ParkedEvent {
        position: position.get(),
        event: None,
        park_time: Some(to_proto::timestamp(it.at)),
        parked_by: by.into(),
        behind_position: behind,
        reason: it.reason.to_string(),
        replaying: it.state == ParkedState::Replaying,
        attempts: it.attempts.count,
        total_attempts: it.attempts.total,
        failures: it.attempts.failures.iter().map(subscriptions::failure).collect(),
        payload_digest: it.digest.map_or_else(String::new, |it| format!("{it:016x}")),
        payload_differs: false,
    }
}

/// An export under way.
pub(crate) struct Export {
    pub(crate) store: EventStore,
    pub(crate) name: String,
    pub(crate) filter: ParkedFilter,
    pub(crate) after: Position,
    pub(crate) format: pb::PayloadFormat,
}

impl Export {
    /// Sends page after page until the last one, or until the client leaves.
    pub(crate) async fn run(mut self, out: mpsc::Sender<Result<pb::ExportParkedResponse, Status>>) {
        while let Some(page) = self.next().await.transpose() {
            let ends = page.is_err();
            if out.send(page.map_err(Status::from)).await.is_err() || ends {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Option<pb::ExportParkedResponse>, Error> {
        if self.store.closing().is_cancelled() {
            return Err(Error::Closing);
        }
        let most = limits::PAGE_SIZE_MAX;
        let (events, _more) =
            self.store.parked_events(&self.name, &self.filter, self.after, most).await?;
        let Some(last) = events.last() else { return Ok(None) };
        self.after = last.position;
        let parked = events.into_iter().map(|it| event(it, self.format));
        Ok(Some(pb::ExportParkedResponse { parked: parked.collect::<Result<_, _>>()? }))
    }
}

/// Tells whoever watches until the end, or until the client leaves.
pub(crate) async fn tell(
    mut watch: ParkedWatch,
    subscription: String,
    out: mpsc::Sender<Result<pb::WatchParkedResponse, Status>>,
) {
    loop {
        let message = tokio::select! {
            message = watch.next() => message,
            () = out.closed() => return,
        };
        let Some(message) = message else { return };
        let status = match &message {
            ParkedMessage::Ending(end) => subscriptions::end_error(end, &subscription),
            ParkedMessage::Started { .. }
            | ParkedMessage::Changed(_)
            | ParkedMessage::Heartbeat(_) => None,
        };
        if out.send(Ok(news(message))).await.is_err() {
            return;
        }
        if let Some(status) = status {
            drop(out.send(Err(status.into())).await);
        }
    }
}

fn news(message: ParkedMessage) -> pb::WatchParkedResponse {
    use pb::watch_parked_response::Message;
    let message = match message {
        ParkedMessage::Started { parked, heartbeat_interval } => {
            Message::Started(pb::WatchParkedStarted {
                parked: parked as u64,
                heartbeat_interval: subscriptions::time(heartbeat_interval),
            })
        }
        ParkedMessage::Changed(ParkedNews { position, change, parked }) => {
            use pb::parked_change::Kind;
            let kind = match change {
                ParkedChange::Parked => Kind::Parked,
                ParkedChange::Replayed => Kind::Replayed,
                ParkedChange::Resolved => Kind::Resolved,
                ParkedChange::Discarded => Kind::Discarded,
            };
            Message::Changed(pb::ParkedChange {
                kind: kind.into(),
                position: position.get(),
                parked: parked.map(|it| record(position, &it)),
            })
        }
        ParkedMessage::Heartbeat(now) => {
            let time = Some(to_proto::timestamp(now));
            Message::Heartbeat(pb::WatchParkedHeartbeat { time })
        }
        ParkedMessage::Ending(end) => Message::Ending(subscriptions::ending(&end)),
    };
    pb::WatchParkedResponse { message: Some(message) }
}
