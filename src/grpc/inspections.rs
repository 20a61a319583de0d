//! Definitions tried out and explained, from messages and to messages.

use crate::{
    condition::{Clause, Outcome},
    grpc::{definitions, from_proto, pb, to_proto},
    model::{Invalid, Position, limits},
    store::{
        Discard, DiscardReason, Discarded, Error, Explanation, History, Key, Payload, Preview,
        Tested, Trial, TrialOutcome, TrialPlace, Tried,
    },
};

pub(super) fn preview(preview: Preview) -> pb::PreviewPayloadResponse {
    let Preview { json, dataset } = preview;
    let name = if dataset.is_empty() { "DATASET" } else { &dataset };
    let data: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    let request = serde_json::json!({"dataset": name, "events": [{"data": data}]});
    // A quote inside a quoted word of the shell.
    let request = request.to_string().replace('\'', "'\\''");
    let grpcurl = format!(
        "grpcurl -plaintext -d '{request}' 127.0.0.1:7373 milepost.v1.EventService/AppendEvents"
    );
    pb::PreviewPayloadResponse { json, dataset, grpcurl }
}

pub(super) fn tried(
    definition: Option<pb::test_event_definition_request::Definition>,
) -> Result<Tried, Error> {
    use pb::test_event_definition_request::Definition;
    match definition {
        Some(Definition::Name(name)) => Ok(Tried::Existing(name)),
        Some(Definition::EventDefinition(mut definition)) => {
            // A name is of no use here, but what has one should be taken as it is.
            if definition.name.is_empty() {
                "new".clone_into(&mut definition.name);
            }
            let (_, settings) = definitions::settings(definition)?;
            Ok(Tried::New(Box::new(settings)))
        }
        None => {
            let message = "missing; wanted `name` or `event_definition`";
            Err(Error::invalid("definition", message))
        }
    }
}

pub(super) fn tried_name(tried: &Tried) -> String {
    match tried {
        Tried::Existing(name) => name.clone(),
        Tried::New(_) => String::new(),
    }
}

pub(super) fn events(events: Vec<pb::Event>) -> Result<Vec<Payload>, Error> {
    let (found, most) = (events.len(), limits::TRIAL_EVENTS_MAX);
    if found > most {
        let message = format!("{found} events; at most {most}");
        return Err(Error::OutOfBounds(Invalid::new("events", message)));
    }
    Ok(events.into_iter().map(from_proto::event).collect())
}

pub(super) fn history(history: pb::TestHistory) -> History {
    let pb::TestHistory { after, before, max_events } = history;
    History { after: Position::new(after), before: Position::new(before), max_events }
}

pub(super) fn tested(tested: Tested, name: &str) -> pb::TestEventDefinitionResponse {
    pb::TestEventDefinitionResponse {
        tested_events: tested.tested,
        matched_events: tested.matched,
        delivered_events: tested.delivered,
        trials: tested.trials.into_iter().map(|it| trial(it, name)).collect(),
    }
}

fn trial(trial: Trial, name: &str) -> pb::EventTrial {
    use pb::event_trial::Place;
    let mut message = pb::EventTrial {
        place: Some(match trial.place {
            TrialPlace::Given(index) => Place::Index(u32::try_from(index).unwrap_or(u32::MAX)),
            TrialPlace::Stored(position) => Place::Position(position.get()),
        }),
        event_id: trial.event_id,
        ..Default::default()
    };
    match trial.outcome {
        TrialOutcome::Invalid(violations) => {
            message.violations = violations.into_iter().map(to_proto::violation).collect();
        }
        TrialOutcome::NoMatch => {}
        TrialOutcome::Discarded(found) => {
            message.matched = true;
            message.discard = Some(discard(found));
        }
        TrialOutcome::Delivered(key, json) => {
            message.matched = true;
            message.delivery = Some(delivery(key, name, 0));
            message.json = json;
        }
    }
    message
}

fn delivery(key: Key, name: &str, version: u32) -> pb::Delivery {
    let event_definition = name.to_owned();
    pb::Delivery { event_definition, version, namespace: key.namespace, key: key.id }
}

fn discard(discard: Discard) -> pb::Discard {
    let reason = match discard.reason {
        DiscardReason::NotLive => pb::DiscardReason::DefinitionNotLive,
        DiscardReason::OutsideInterval => pb::DiscardReason::OutsideInterval,
        DiscardReason::KeyNotComputed => pb::DiscardReason::KeyNotComputed,
    };
    pb::Discard { reason: reason.into(), message: discard.message }
}

pub(super) fn discarded(found: Discarded) -> pb::DiscardedEvent {
    pb::DiscardedEvent {
        position: found.position.get(),
        event_id: found.event_id,
        record_time: Some(to_proto::timestamp(found.record_time)),
        version: found.version,
        discard: Some(discard(found.discard)),
    }
}

pub(super) fn explanation(explanation: Explanation, name: &str) -> pb::ExplainMatchResponse {
    let Explanation { version, stored, clause: found, outcome } = explanation;
    let mut message = pb::ExplainMatchResponse {
        stored_match: stored,
        version: version.version,
        state: definitions::state_message(version.spec.state).into(),
        condition: Some(clause(found)),
        ..Default::default()
    };
    match outcome {
        TrialOutcome::Invalid(_) | TrialOutcome::NoMatch => {}
        TrialOutcome::Discarded(found) => message.discard = Some(discard(found)),
        TrialOutcome::Delivered(key, _) => {
            message.delivered = true;
            message.delivery = Some(delivery(key, name, version.version));
        }
    }
    message
}

/// Recursion is bounded by the depth of a condition.
fn clause(clause: Clause) -> pb::ConditionClause {
    use pb::condition_clause::Outcome as Message;
    let (outcome, message) = match clause.outcome {
        Outcome::True => (Message::Holds, ""),
        Outcome::False => (Message::DoesNotHold, ""),
        Outcome::Fault(fault) => (Message::ComesToNothing, fault.describe()),
    };
    pb::ConditionClause {
        text: clause.text,
        outcome: outcome.into(),
        message: message.to_owned(),
        values: clause
            .values
            .into_iter()
            .map(|(path, json)| pb::PathValue { path, json })
            .collect(),
        clauses: clause.clauses.into_iter().map(self::clause).collect(),
    }
}
