//! Event definitions: what none, one, and a thousand of them in force cost an append.

use anyhow::anyhow;
use serde_json::Value;

use crate::{
    cli::{
        bench::{Bench, documents, figures::Figure, ingest},
        demo,
        failure::Failure,
    },
    grpc::{client::Connection, pb},
};

const COUNTS: [usize; 3] = [0, 1, 1000];
const TURNS: usize = 3;
const TYPES: [&str; 12] = [
    "web.webpagedetails.pageViews",
    "web.webinteraction.linkClicks",
    "commerce.productViews",
    "commerce.productListAdds",
    "location.entry",
    "location.exit",
    "commerce.productListViews",
    "commerce.checkouts",
    "commerce.purchases",
    "application.launch",
    "commerce.productListRemovals",
    "loyalty.pointsGained",
];

/// Appends every event, in turns under schemas that have so many definitions.
pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let connection = bench.connect().await?;
    let mut schemas = Vec::new();
    for count in COUNTS {
        let schema_id = register(&connection, count).await?;
        for number in 0..count {
            let name = format!("bench_{}_{count}_{number}", bench.tag);
            define(&connection, name, &schema_id, number).await?;
        }
        schemas.push((count, schema_id));
    }
    let mut figures = Vec::new();
    for turn in 0..TURNS {
        for (count, schema_id) in &schemas {
            let name = format!("definitions-{count}-{turn}");
            let dataset = bench.create_on(&name, schema_id, pb::OnInvalid::Reject).await?;
            let figure = Figure::new("match", format!("{count} definitions"))
                .with("definitions", *count as u64);
            figures.push(ingest::load_as(bench, &dataset, figure).await?);
        }
    }
    Ok(figures)
}

/// The schema of the generated events once more, under another name.
async fn register(connection: &Connection, count: usize) -> Result<String, Failure> {
    let document = documents().last().ok_or_else(|| Failure::Local(anyhow!("no schema")))?;
    let mut document: Value = serde_json::from_str(document).map_err(anyhow::Error::from)?;
    let id = format!("{}-{count}", document.get("$id").and_then(Value::as_str).unwrap_or_default());
    if let Some(name) = document.get_mut("$id") {
        *name = id.into();
    }
    Ok(demo::register_document(connection, &document.to_string()).await?.0.id)
}

/// One that looks at the type and at one more field, and seldom matches.
async fn define(
    connection: &Connection,
    name: String,
    schema_id: &str,
    number: usize,
) -> Result<(), Failure> {
    let kind = TYPES.get(number % TYPES.len()).copied().unwrap_or_default();
    let more = match number % 3 {
        0 => format!("environment.operatingSystemVersion == '{}.{}'", number % 22, number % 10),
        1 => format!("productListItems.exists(it, it.SKU == 'SKU-{number}')"),
        _ => format!("commerce.order.priceTotal > {}.0", 1000 + number),
    };
    let definition = pb::EventDefinition {
        name,
        kind: pb::EventDefinitionKind::UnitaryRule.into(),
        schema_id: schema_id.to_owned(),
        condition: format!("eventType == '{kind}' && {more}"),
        state: pb::EventDefinitionState::Live.into(),
        ..Default::default()
    };
    let request = pb::CreateEventDefinitionRequest {
        event_definition: Some(definition),
        validate_only: false,
    };
    connection.event_definitions().create_event_definition(request).await?;
    Ok(())
}
