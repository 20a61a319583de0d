//! `milepost verify`.

use std::{
    env,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process,
};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{Output, fields, note, thousands},
    },
    grpc::pb::{self, verify_store_response::Message},
    store::{self, Loss, Salvaged, VerifyNews},
};

/// Check everything that is stored, and save what is sound of a damaged store.
///
/// Asks a running server, or reads the data directory of a stopped one, which is the stricter check
/// and the one for a store that does not open. Changes nothing. Exits with 5 when something is wrong.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Check this data directory, which no server may have open
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Copy what is sound into this new directory, and print what is lost
    #[arg(long, value_name = "TARGET", requires = "data_dir")]
    salvage: Option<PathBuf>,
    /// Where to copy each database to while it is checked; created and removed
    ///
    /// The embedded store changes what it opens, so copies are checked. Needs room for the largest
    /// volume, some hundred megabytes. By default below the directory for temporary files.
    #[arg(long, value_name = "DIR", requires = "data_dir", conflicts_with = "salvage")]
    scratch: Option<PathBuf>,
}

pub(crate) async fn run(args: VerifyArgs) -> Done {
    let output = Output::new(args.client.output);
    match (args.data_dir, args.salvage) {
        (None, _) => online(&args.client, output).await,
        (Some(directory), None) => {
            let scratch = args.scratch.unwrap_or_else(|| {
                env::temp_dir().join(format!("milepost-verify-{}", process::id()))
            });
            blocking(move || offline(&directory, &scratch, output)).await
        }
        (Some(directory), Some(target)) => {
            blocking(move || salvage(&directory, &target, output)).await
        }
    }
}

async fn blocking(work: impl FnOnce() -> Done + Send + 'static) -> Done {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Failure::Local(panic.into())))
}

async fn online(client: &ClientArgs, mut output: Output) -> Done {
    let mut admin = client.connect().await?.admin();
    let mut news = admin.verify_store(pb::VerifyStoreRequest {}).await?.into_inner();
    let mut findings = 0;
    while let Some(item) = news.message().await? {
        match item.message {
            Some(Message::Progress(state)) => progress(&state),
            Some(Message::Finding(finding)) => show_finding(&mut output, &finding)?,
            Some(Message::Summary(state)) => {
                findings = state.findings;
                output.show(&summary_json(&state), || summary_text(&state))?;
            }
            None => {}
        }
    }
    end(output, findings)
}

fn offline(directory: &Path, scratch: &Path, mut output: Output) -> Done {
    let mut shown = Ok(());
    let done = store::verify_directory(directory, scratch, &mut |item| {
        shown = show(&mut output, item);
        if shown.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    shown?;
    let state = done.map_err(|error| Failure::Local(error.into()))?.into();
    output.show(&summary_json(&state), || summary_text(&state))?;
    end(output, state.findings)
}

fn salvage(directory: &Path, target: &Path, mut output: Output) -> Done {
    let mut shown = Ok(());
    let done = store::salvage(directory, target, &mut |item| {
        shown = show(&mut output, item);
        ControlFlow::Continue(())
    });
    shown?;
    let done = done.map_err(|error| Failure::Local(error.into()))?;
    for loss in &done.losses {
        output.show(&loss_json(loss), || loss_text(loss))?;
    }
    output.show(&salvaged_json(&done), || salvaged_text(&done))?;
    end(output, done.read.findings + done.losses.len() as u64)
}

fn end(mut output: Output, findings: u64) -> Done {
    output.flush()?;
    if findings > 0 { Err(Failure::Damaged) } else { Ok(()) }
}

fn show(output: &mut Output, item: VerifyNews) -> Done {
    match item {
        VerifyNews::Progress(state) => {
            progress(&state.into());
            Ok(())
        }
        VerifyNews::Finding(finding) => show_finding(output, &finding.into()),
    }
}

fn progress(state: &pb::VerifyState) {
    let (position, last) = (thousands(state.position), thousands(state.last_position));
    note(format!("checked up to position {position} of {last}"));
}

fn show_finding(output: &mut Output, finding: &pb::VerifyFinding) -> Done {
    let kind = finding.kind().as_str_name().trim_start_matches("VERIFY_FINDING_KIND_");
    let json = json!({ "finding": {
        "kind": kind,
        "message": finding.message,
        "volume": finding.volume,
        "block": finding.block,
        "first_position": finding.first_position,
        "last_position": finding.last_position,
        "segment": finding.segment,
        "term": finding.term,
        "event_id": finding.event_id,
    }});
    output.show(&json, || {
        let mut place = Vec::new();
        let numbers = [
            ("volume", u64::from(finding.volume)),
            ("block", finding.block),
            ("segment", u64::from(finding.segment)),
        ];
        place.extend(numbers.iter().filter(|it| it.1 > 0).map(|it| format!("{} {}", it.0, it.1)));
        let (first, last) = (finding.first_position, finding.last_position);
        if first > 0 {
            place.push(positions(first, last));
        }
        place.extend(Some(finding.term.clone()).filter(|term| !term.is_empty()));
        if !finding.event_id.is_empty() {
            place.push(format!("event `{}`", finding.event_id));
        }
        let text = format!("{}: {}: {}", kind.to_lowercase(), place.join(", "), finding.message);
        crate::cli::output::printable(&text.replace(": : ", ": "))
    })
}

fn positions(first: u64, last: u64) -> String {
    if first == last { format!("position {first}") } else { format!("positions {first} to {last}") }
}

fn summary_json(state: &pb::VerifyState) -> Value {
    json!({ "summary": {
        "position": state.position,
        "last_position": state.last_position,
        "events": state.events,
        "removed": state.removed,
        "lost": state.lost,
        "volumes": state.volumes,
        "blocks": state.blocks,
        "segments": state.segments,
        "frames": state.frames,
        "findings": state.findings,
    }})
}

fn summary_text(state: &pb::VerifyState) -> String {
    fields(&[
        ("checked", format!("positions up to {}", thousands(state.position))),
        ("events", thousands(state.events)),
        ("removed events", thousands(state.removed)),
        ("lost events", thousands(state.lost)),
        ("volumes", thousands(state.volumes)),
        ("blocks", thousands(state.blocks)),
        ("index segments", thousands(state.segments)),
        ("journal frames", thousands(state.frames)),
        ("findings", thousands(state.findings)),
    ])
}

fn loss_json(loss: &Loss) -> Value {
    let events = loss
        .events
        .iter()
        .map(|event| json!({ "position": event.position.get(), "terms": event.terms }));
    json!({ "loss": {
        "first_position": loss.first.get(),
        "last_position": loss.last.get(),
        "volume": loss.volume,
        "message": loss.why,
        "events": events.collect::<Vec<_>>(),
    }})
}

fn loss_text(loss: &Loss) -> String {
    let place = positions(loss.first.get(), loss.last.get());
    let mut lines = vec![format!("lost: {place}: {}", loss.why)];
    for event in &loss.events {
        lines.push(format!("  position {}: {}", event.position, event.terms.join(", ")));
    }
    lines.iter().map(|line| crate::cli::output::printable(line)).collect::<Vec<_>>().join("\n")
}

fn salvaged_json(done: &Salvaged) -> Value {
    json!({ "salvaged": {
        "events": done.read.events,
        "removed": done.read.removed,
        "lost": done.read.lost,
        "last_position": done.read.position.get(),
        "made_up": done.made_up,
        "is_same_log": done.is_same_log,
    }})
}

fn salvaged_text(done: &Salvaged) -> String {
    fields(&[
        ("copied events", thousands(done.read.events)),
        ("removed events", thousands(done.read.removed)),
        ("lost events", thousands(done.read.lost)),
        ("last position", thousands(done.read.position.get())),
        ("made up", done.made_up.join(", ")),
        ("resume tokens", if done.is_same_log { "stay good" } else { "are void" }.to_owned()),
    ])
}
