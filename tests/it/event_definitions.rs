//! Event definitions: what matches is decided once, by what is in force, and stays.

mod backfill;
mod command_line;
mod examples;
mod inspecting;
mod life;
mod matching;

use milepost::grpc::pb;
use prost_types::FieldMask;
use tonic::Status;

use crate::support::{Client, events::PURCHASE};

/// A definition on the purchase schema, live.
pub(crate) fn rule(name: &str, condition: &str) -> pb::EventDefinition {
    pb::EventDefinition {
        name: name.into(),
        kind: pb::EventDefinitionKind::UnitaryRule.into(),
        schema_id: PURCHASE.into(),
        condition: condition.into(),
        state: pb::EventDefinitionState::Live.into(),
        ..Default::default()
    }
}

pub(crate) async fn create(
    client: &Client,
    definition: pb::EventDefinition,
) -> Result<pb::EventDefinition, Status> {
    let request = pb::CreateEventDefinitionRequest {
        event_definition: Some(definition),
        validate_only: false,
    };
    let response = client.definitions.clone().create_event_definition(request).await?;
    Ok(response.into_inner().event_definition.unwrap())
}

async fn update(
    client: &Client,
    definition: pb::EventDefinition,
    fields: &[&str],
) -> Result<pb::EventDefinition, Status> {
    let request = pb::UpdateEventDefinitionRequest {
        event_definition: Some(definition),
        update_mask: Some(FieldMask { paths: fields.iter().map(ToString::to_string).collect() }),
        validate_only: false,
    };
    let response = client.definitions.clone().update_event_definition(request).await?;
    Ok(response.into_inner().event_definition.unwrap())
}

async fn set_state(
    client: &Client,
    name: &str,
    state: pb::EventDefinitionState,
) -> Result<pb::EventDefinition, Status> {
    let definition =
        pb::EventDefinition { name: name.into(), state: state.into(), ..Default::default() };
    update(client, definition, &["state"]).await
}

async fn get(client: &Client, name: &str) -> Result<pb::GetEventDefinitionResponse, Status> {
    let request = pb::GetEventDefinitionRequest { name: name.into() };
    Ok(client.definitions.clone().get_event_definition(request).await?.into_inner())
}

async fn delete(client: &Client, name: &str) -> Result<(), Status> {
    let request = pb::DeleteEventDefinitionRequest { name: name.into(), ..Default::default() };
    client.definitions.clone().delete_event_definition(request).await.map(drop)
}

/// A filter by event definition.
pub(crate) fn by_definition(names: &[&str]) -> pb::EventFilter {
    let event_definitions = names.iter().map(ToString::to_string).collect();
    pb::EventFilter { event_definitions, ..Default::default() }
}
