//! `milepost trace`.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{args::ClientArgs, failure::Done, output::Output, render::violation_json, time},
    grpc::pb::{self, trace_step::Step},
};

/// Tell what became of an event: stored, set aside, refused, removed, or never seen.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The dataset that it was sent to
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// The event's `_id`
    event_id: String,
}

pub(crate) async fn run(args: TraceArgs) -> Done {
    let mut events = args.client.connect().await?.events();
    let key = pb::EventKey { dataset: args.dataset, event_id: args.event_id };
    let request = pb::TraceEventRequest { event: Some(key) };
    let trace = events.trace_event(request).await?.into_inner();
    let state = trace.state().as_str_name().trim_start_matches("EVENT_STATE_").to_owned();
    let steps: Vec<Value> = trace.steps.iter().map(step_json).collect();
    let deliveries: Vec<Value> = trace
        .deliveries
        .iter()
        .map(|it| {
            json!({
                "subscription": it.subscription,
                "standing": it.standing,
                "client_id": it.client_id,
                "time": time::show(it.time.as_ref()),
            })
        })
        .collect();
    let value = json!({
        "state": state,
        "summary": trace.summary,
        "steps": steps,
        "event_definitions": trace.event_definitions,
        "deliveries": deliveries,
    });
    let mut output = Output::new(args.client.output);
    output.show(&value, || {
        let mut lines = vec![format!("{state}: {}", trace.summary)];
        lines.extend(trace.steps.iter().map(step_text));
        lines.extend(trace.event_definitions.iter().map(|it| format!("matched {it}")));
        lines.extend(
            trace.deliveries.iter().map(|it| format!("{}: {}", it.subscription, it.standing)),
        );
        lines.join("\n")
    })?;
    output.flush()
}

fn step_text(step: &pb::TraceStep) -> String {
    let what = match &step.step {
        Some(Step::Quarantined(it)) if it.times_received == 0 => {
            format!("came, was set aside as {} and replayed later", it.quarantine_id)
        }
        Some(Step::Quarantined(it)) => {
            let (id, times, message) = (&it.quarantine_id, it.times_received, &it.message);
            format!("came ({times} times), set aside as {id}: {message}")
        }
        Some(Step::Refused(it)) => format!("refused with {}: {}", it.reason, it.message),
        Some(Step::Stored(it)) => match it.violations.first() {
            None => format!("stored at position {}", it.position),
            Some(first) => {
                format!("stored at position {} although invalid: {}", it.position, first.message)
            }
        },
        Some(Step::Removed(it)) => {
            format!("removed from position {}; lost up to {}", it.position, it.floor_position)
        }
        None => String::new(),
    };
    match &step.time {
        Some(time) => format!("{}  {what}", time::show(Some(time))),
        None => what,
    }
}

fn step_json(step: &pb::TraceStep) -> Value {
    let mut value = match &step.step {
        Some(Step::Quarantined(it)) => json!({
            "step": "quarantined",
            "quarantine_id": it.quarantine_id,
            "times_received": it.times_received,
            "message": it.message,
        }),
        Some(Step::Refused(it)) => {
            json!({ "step": "refused", "reason": it.reason, "message": it.message })
        }
        Some(Step::Stored(it)) if it.violations.is_empty() => {
            json!({ "step": "stored", "position": it.position })
        }
        Some(Step::Stored(it)) => json!({
            "step": "stored",
            "position": it.position,
            "violations": it.violations.iter().map(violation_json).collect::<Vec<_>>(),
        }),
        Some(Step::Removed(it)) => json!({
            "step": "removed",
            "position": it.position,
            "floor_position": it.floor_position,
        }),
        None => json!({}),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("time".to_owned(), time::show(step.time.as_ref()).into());
    }
    value
}
