//! What becomes of refused events: noted, so that their fate can be told.

use std::sync::Arc;

use crate::{
    grpc::{
        pb::{self, trace_step::Step},
        status::{event_reason, reason_name},
        subscriptions,
        to_proto::{timestamp, violation},
    },
    model::DatasetName,
    store::{
        Append, AppendOutcome, Appended, Error, EventProblem, EventState, EventStore, Explained,
        Subscription, Trace, TraceStep, show_id,
    },
};

/// What an append was, for a note of what was refused.
pub(crate) struct Sent {
    dataset: DatasetName,
    events: u64,
    is_check: bool,
}

impl Sent {
    pub(crate) fn of(append: &Append) -> Self {
        let (dataset, events) = (append.dataset.clone(), append.events.len() as u64);
        Self { dataset, events, is_check: append.validate_only }
    }

    /// Notes what was refused.
    pub(crate) fn note(&self, store: &EventStore, outcome: &Result<Appended, Error>) {
        if self.is_check {
            return;
        }
        match outcome {
            Ok(appended) => {
                for outcome in &appended.outcomes {
                    if let AppendOutcome::Rejected(problem) = outcome {
                        self.note_event(store, problem);
                    }
                }
            }
            Err(error) => {
                let mut others = self.events;
                if let Error::Events(problems) = error {
                    others = others.saturating_sub(problems.len() as u64);
                    for problem in problems {
                        self.note_event(store, problem);
                    }
                }
                if others > 0 {
                    store.note_refused(self.dataset.as_str(), reason_name(error), others);
                }
            }
        }
    }

    fn note_event(&self, store: &EventStore, problem: &EventProblem) {
        let (reason, message) = (event_reason(&problem.fault), problem.fault.summary());
        store.note_refused_event(self.dataset.as_str(), reason, &problem.event_id, &message);
    }
}

pub(crate) fn trace(trace: Trace) -> pb::TraceEventResponse {
    let state = match trace.state {
        EventState::Stored => pb::EventState::Stored,
        EventState::Tagged => pb::EventState::Tagged,
        EventState::Removed => pb::EventState::Removed,
        EventState::Quarantined => pb::EventState::Quarantined,
        EventState::Refused => pb::EventState::Refused,
        EventState::Unknown => pb::EventState::Unknown,
    };
    let steps = trace.steps.into_iter().map(step).collect();
    let name = |it: Arc<str>| it.to_string();
    pb::TraceEventResponse {
        state: state.into(),
        summary: trace.summary,
        steps,
        event_definitions: trace.event_definitions.into_iter().map(name).collect(),
        deliveries: trace.deliveries.into_iter().map(delivery).collect(),
    }
}

fn delivery((subscription, explained): (Arc<Subscription>, Explained)) -> pb::TraceDelivery {
    let explained = subscriptions::explained(explained);
    pb::TraceDelivery {
        subscription: subscription.name.to_string(),
        standing: explained.standing().as_str_name().to_owned(),
        client_id: explained.client_id,
        time: explained.time,
    }
}

fn step(step: TraceStep) -> pb::TraceStep {
    let time = step.time().map(timestamp);
    let step = match step {
        TraceStep::Quarantined { id, times, message, .. } => {
            let (quarantine_id, times_received) = (show_id(id), times);
            Step::Quarantined(pb::TraceQuarantined { quarantine_id, times_received, message })
        }
        TraceStep::Refused(refusal) => Step::Refused(pb::TraceRefused {
            reason: refusal.reason.to_owned(),
            message: refusal.message,
        }),
        TraceStep::Stored { position, violations, .. } => Step::Stored(pb::TraceStored {
            position: position.get(),
            violations: violations.into_iter().map(violation).collect(),
        }),
        TraceStep::Removed { position, floor } => Step::Removed(pb::TraceRemoved {
            position: position.get(),
            floor_position: floor.get(),
        }),
    };
    pb::TraceStep { time, step: Some(step) }
}
