//! The registry with a library of schema documents: importing it, keeping it compiled, and judging by the
//! largest schema of events.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use crate::{
    cli::{
        bench::{
            figures::{Figure, Times, float, ratio},
            options::RegistryArgs,
            server::{self, ChildServer, WorkFolder},
        },
        failure::{Done, Failure},
        output::Output,
        schema::documents,
    },
    grpc::{client::Connection, pb},
    model::json::Document,
    schema::{
        CompiledSchema, Random, SchemaDocument, built_in, closure, compile, is_for_events, sample,
        summarize,
    },
};

/// Different events that are judged.
const SAMPLES: u64 = 200;
/// Of a schema's fields that need not be there, so many percent are.
const OPTIONAL_PERCENT: [usize; 2] = [5, 50];
const VIOLATIONS_MAX: usize = 100;

pub(crate) async fn run(args: RegistryArgs) -> Done {
    let mut output = Output::new(args.output);
    let found = documents(&args.paths)?;
    let child = ChildServer::start(WorkFolder::create(&args.dir)?).await?;
    import(&child, &found).await?.print(&mut output)?;
    child.stop().await?;
    let library = Library::read(&found);
    let (compiled, figure) = library.compile();
    figure.print(&mut output)?;
    let largest = largest(&compiled)?;
    for percent in OPTIONAL_PERCENT {
        judge(largest, percent, args.seconds)?.print(&mut output)?;
    }
    Ok(())
}

/// What a server takes for all of them at once; the second time nothing is new.
async fn import(child: &ChildServer, found: &[pb::SchemaDocument]) -> Result<Figure, Failure> {
    let mut client = Connection::open(child.address()).await?.schemas();
    let mut seconds = Vec::new();
    let mut taken = 0;
    for _ in 0..2 {
        let request = pb::ImportSchemasRequest {
            documents: found.to_vec(),
            keep_going: true,
            ..Default::default()
        };
        let begin = Instant::now();
        let response = client.import_schemas(request).await?.into_inner();
        seconds.push(begin.elapsed().as_secs_f64());
        let created = pb::import_result::Outcome::Created;
        taken += response.results.iter().filter(|it| it.outcome() == created).count();
    }
    let second = |at: usize| seconds.get(at).copied().unwrap_or_default();
    Ok(Figure::new("registry", "import")
        .with("documents", found.len() as u64)
        .with("taken", taken as u64)
        .value("seconds", second(0), "s")
        .value("again_seconds", second(1), "s when nothing is new"))
}

/// The documents that can be read, and those that are built in.
struct Library {
    documents: Vec<Arc<SchemaDocument>>,
    by_id: HashMap<String, Arc<SchemaDocument>>,
}

/// A schema and all that it refers to.
struct Closed {
    root: Arc<SchemaDocument>,
    closure: Vec<Arc<SchemaDocument>>,
    schema: CompiledSchema,
}

impl Library {
    fn read(found: &[pb::SchemaDocument]) -> Self {
        let read = found.iter().filter_map(|it| SchemaDocument::parse_last(&it.document).ok());
        let documents: Vec<_> = read.map(|it| Arc::new(it.0)).collect();
        let all = built_in().into_iter().map(Arc::new).chain(documents.iter().cloned());
        let by_id = all.map(|it| (it.id().to_owned(), it)).collect();
        Self { documents, by_id }
    }

    /// Compiles every document, as if each were a schema, and keeps them all.
    fn compile(&self) -> (Vec<Closed>, Figure) {
        let memory = || server::memory_bytes(std::process::id()).unwrap_or_default();
        let (before, begin) = (memory(), Instant::now());
        let compiled: Vec<_> = self.documents.iter().filter_map(|it| self.closed(it)).collect();
        let (took, after) = (begin.elapsed(), memory());
        let count = compiled.len() as u64;
        let bytes = after.saturating_sub(before);
        let figure = Figure::new("registry", "compiled and kept")
            .with("schemas", count)
            .value("ms_each", took.as_secs_f64() * 1000.0 / float(count.max(1)), "ms each")
            .value("memory_mib", ratio(bytes, 1024 * 1024), "MiB in memory")
            .value("kib_each", ratio(bytes / 1024, count), "KiB each");
        (compiled, figure)
    }

    fn closed(&self, root: &Arc<SchemaDocument>) -> Option<Closed> {
        let closure = closure(root, |id| self.by_id.get(id).cloned()).ok()?;
        let schema = compile(root, &closure).ok()?;
        Some(Closed { root: Arc::clone(root), closure, schema })
    }
}

/// The schema of events with the most fields.
fn largest(compiled: &[Closed]) -> Result<&Closed, Failure> {
    let of_events = compiled.iter().filter(|it| is_for_events(&it.root, &it.closure));
    let largest = of_events.max_by_key(|it| summarize(&it.root, &it.closure).fields.len());
    largest.ok_or_else(|| Failure::Local(anyhow!("none of them is a schema of events")))
}

/// Parses and judges events that the schema accepts, on one core.
fn judge(by: &Closed, percent: usize, seconds: u64) -> Result<Figure, Failure> {
    let Closed { root, closure, schema } = by;
    let made = (0..SAMPLES).filter_map(|seed| sample(root, closure, Random::new(seed), percent));
    let accepted =
        |text: &String| Document::parse(text).is_ok_and(|it| schema.violations(&it, 1).is_empty());
    let texts: Vec<String> = made.map(|it| it.to_string()).filter(accepted).collect();
    if texts.is_empty() {
        return Err(Failure::Local(anyhow!("no event can be made for `{}`", root.id())));
    }
    let (mut both, mut judged) = (Times::default(), Times::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        for text in &texts {
            let begin = Instant::now();
            let Ok(document) = Document::parse(text) else { continue };
            let parsed = Instant::now();
            let violations = schema.violations(&document, VIOLATIONS_MAX);
            judged.add(parsed.elapsed());
            both.add(begin.elapsed());
            drop(violations);
        }
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    let fields = summarize(root, closure).fields.len() as u64;
    Ok(Figure::new("registry", format!("judging, {percent} % of the fields"))
        .with("fields", fields)
        .value("bytes", ratio(bytes as u64, texts.len() as u64), "bytes")
        .value("judge_p50_us", judged.quantile_us(0.5), "us p50")
        .value("judge_p99_us", judged.quantile_us(0.99), "us p99")
        .value("parse_and_judge_p50_us", both.quantile_us(0.5), "us p50 with parsing")
        .value("parse_and_judge_p99_us", both.quantile_us(0.99), "us p99"))
}
