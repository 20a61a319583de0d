//! `milepost event-definition test`, `explain` and `discards`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        event_definition::file,
        failure::{Done, Failure},
        output::{self, Output},
        time,
    },
    grpc::pb::{
        self, event_trial::Place, explain_match_request::Subject,
        test_event_definition_request::Definition,
    },
};

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The definition's name
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// A file with a definition that need not exist, as JSON
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A file of events to try it on, one JSON object per line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Try it on so many of the newest stored events; at most 100000
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1000")]
    history: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The definition's name
    name: String,
    /// Position of the event
    position: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DiscardsArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The definition's name
    name: String,
    /// Only events after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
}

pub(super) async fn test(args: TestArgs) -> Done {
    let definition = match (args.name, args.file) {
        (Some(name), _) => Definition::Name(name),
        (None, file) => {
            let found = file::read(&file.into_iter().collect::<Vec<_>>())?;
            match <[pb::EventDefinition; 1]>::try_from(found) {
                Ok([only]) => Definition::EventDefinition(only),
                Err(found) => {
                    let count = found.len();
                    return Err(Failure::usage(format!("{count} definitions; wanted one")));
                }
            }
        }
    };
    let events = match &args.events {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot read {}", path.display());
            Failure::Local(anyhow::Error::new(error).context(what))
        })?,
        None => String::new(),
    };
    let event = |line: &str| pb::Event {
        payload: Some(pb::event::Payload::Json(line.to_owned().into_bytes().into())),
    };
    let events: Vec<_> = events.lines().filter(|it| !it.trim().is_empty()).map(event).collect();
    let history = args
        .history
        // Without events it is about history.
        .or(events.is_empty().then_some(0))
        .map(|max_events| pb::TestHistory { max_events, ..Default::default() });
    let request = pb::TestEventDefinitionRequest { definition: Some(definition), events, history };
    let mut client = args.client.connect().await?.event_definitions();
    let tested = client.test_event_definition(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    let json = json!({
        "tested_events": tested.tested_events,
        "matched_events": tested.matched_events,
        "delivered_events": tested.delivered_events,
        "trials": tested.trials.iter().map(trial_json).collect::<Vec<_>>(),
    });
    output.show(&json, || tested_text(&tested))?;
    output.flush()
}

fn tested_text(tested: &pb::TestEventDefinitionResponse) -> String {
    let mut lines = vec![format!(
        "{} tested, {} matched, {} delivered",
        tested.tested_events, tested.matched_events, tested.delivered_events
    )];
    lines.extend(tested.trials.iter().map(|it| {
        let said = match (&it.delivery, &it.discard, it.violations.first()) {
            (Some(to), _, _) => format!("delivered to {}:{}  {}", to.namespace, to.key, it.json),
            (None, Some(discard), _) => {
                format!("discarded, {}: {}", discard.reason().as_str_name(), discard.message)
            }
            (None, None, Some(violation)) => {
                format!("invalid, `{}`: {}", violation.instance_path, violation.message)
            }
            (None, None, None) => "no match".to_owned(),
        };
        output::printable(&format!("{:>10}  {}  {said}", place(it), it.event_id))
    }));
    lines.join("\n")
}

fn place(trial: &pb::EventTrial) -> String {
    match trial.place {
        Some(Place::Index(index)) => format!("[{index}]"),
        Some(Place::Position(position)) => position.to_string(),
        None => String::new(),
    }
}

fn trial_json(trial: &pb::EventTrial) -> Value {
    json!({
        "place": place(trial),
        "event_id": trial.event_id,
        "matched": trial.matched,
        "delivery": trial.delivery.as_ref().map(delivery_json),
        "payload": serde_json::from_str::<Value>(&trial.json).ok(),
        "discard": trial.discard.as_ref().map(discard_json),
        "violations": trial.violations.iter().map(|it| {
            json!({"instance_path": it.instance_path, "keyword": it.keyword, "message": it.message})
        }).collect::<Vec<_>>(),
    })
}

fn delivery_json(delivery: &pb::Delivery) -> Value {
    json!({"namespace": delivery.namespace, "key": delivery.key})
}

fn discard_json(discard: &pb::Discard) -> Value {
    json!({"reason": discard.reason().as_str_name(), "message": discard.message})
}

pub(super) async fn explain(args: ExplainArgs) -> Done {
    let mut client = args.client.connect().await?.event_definitions();
    let subject = Some(Subject::Position(args.position));
    let request = pb::ExplainMatchRequest { name: args.name, subject };
    let said = client.explain_match(request).await?.into_inner();
    let mut output = Output::new(args.client.output);
    let json = json!({
        "delivered": said.delivered,
        "stored_match": said.stored_match,
        "version": said.version,
        "state": said.state().as_str_name(),
        "condition": said.condition.as_ref().map(clause_json),
        "delivery": said.delivery.as_ref().map(delivery_json),
        "discard": said.discard.as_ref().map(discard_json),
    });
    output.show(&json, || explained_text(&said))?;
    output.flush()
}

fn explained_text(said: &pb::ExplainMatchResponse) -> String {
    let mut lines = Vec::new();
    let fate = match (&said.delivery, &said.discard) {
        (Some(to), _) => format!("delivered to {}:{}", to.namespace, to.key),
        (None, Some(discard)) => {
            format!("discarded, {}: {}", discard.reason().as_str_name(), discard.message)
        }
        (None, None) => "no match".to_owned(),
    };
    lines.push(format!("{fate} (version {}, {})", said.version, said.state().as_str_name()));
    if let Some(condition) = &said.condition {
        clause_lines(condition, 0, &mut lines);
    }
    lines.iter().map(|it| output::printable(it)).collect::<Vec<_>>().join("\n")
}

fn clause_lines(clause: &pb::ConditionClause, level: usize, lines: &mut Vec<String>) {
    use pb::condition_clause::Outcome;
    let mark = match clause.outcome() {
        Outcome::Holds => "yes",
        Outcome::DoesNotHold => "no ",
        Outcome::ComesToNothing | Outcome::Unspecified => "?  ",
    };
    let said =
        if clause.message.is_empty() { String::new() } else { format!("  ({})", clause.message) };
    let values: Vec<String> = clause
        .values
        .iter()
        .map(|it| format!("{} is {}", it.path, it.json.as_deref().unwrap_or("missing")))
        .collect();
    let values =
        if values.is_empty() { String::new() } else { format!("  [{}]", values.join(", ")) };
    lines.push(format!("{}{mark} {}{said}{values}", "  ".repeat(level), clause.text));
    for part in &clause.clauses {
        clause_lines(part, level + 1, lines);
    }
}

fn clause_json(clause: &pb::ConditionClause) -> Value {
    json!({
        "text": clause.text,
        "outcome": clause.outcome().as_str_name(),
        "message": clause.message,
        "values": clause.values.iter().map(|it| json!({"path": it.path, "json": it.json}))
            .collect::<Vec<_>>(),
        "clauses": clause.clauses.iter().map(clause_json).collect::<Vec<_>>(),
    })
}

pub(super) async fn discards(args: DiscardsArgs) -> Done {
    let mut client = args.client.connect().await?.event_definitions();
    let mut output = Output::new(args.client.output);
    let mut after = args.after;
    loop {
        let request = pb::ListDiscardsRequest { name: args.name.clone(), after, page_size: 1000 };
        let page = client.list_discards(request).await?.into_inner();
        for it in &page.discards {
            let discard = it.discard.clone().unwrap_or_default();
            let json = json!({
                "position": it.position,
                "event_id": it.event_id,
                "record_time": time::show(it.record_time.as_ref()),
                "version": it.version,
                "discard": discard_json(&discard),
            });
            let reason = discard.reason().as_str_name();
            let line =
                format!("{:>10}  {}  {reason}: {}", it.position, it.event_id, discard.message);
            output.show(&json, || output::printable(&line))?;
        }
        output.flush()?;
        if page.scanned_to >= page.last_position || page.scanned_to <= after {
            return Ok(());
        }
        after = page.scanned_to;
    }
}
