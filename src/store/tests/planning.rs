//! By what a filter's events are found.

use std::{collections::BTreeMap, time::Duration};

use super::harness::{Harness, SCHEMA};
use crate::{
    model::{
        DatasetName, DefinitionName, EventFilter, EventTypePattern, IdentityPattern,
        SchemaVersions, Tagged, TimeRange,
    },
    storage::{Lookup, Term},
    store::{
        DefinitionKind, DefinitionSettings, DefinitionSpec, DefinitionState, FilterIndex,
        plan::Plan,
    },
};

/// A store with one dataset and one event definition.
async fn defined() -> Harness {
    let harness = Harness::new().await;
    harness.create_dataset("one").await.unwrap();
    let spec = DefinitionSpec {
        kind: DefinitionKind::UnitaryRule,
        schema_id: SCHEMA.into(),
        condition: "price > 1".to_owned(),
        namespace: "Email".to_owned(),
        key: String::new(),
        fields: Vec::new(),
        state: DefinitionState::Live,
        effective: TimeRange::default(),
        coalescing: Duration::ZERO,
    };
    let settings = DefinitionSettings {
        spec,
        display_name: String::new(),
        description: String::new(),
        labels: BTreeMap::new(),
        used_by: Vec::new(),
    };
    let name = DefinitionName::parse("name", "dear").unwrap();
    harness.store.create_event_definition(name, settings, false).await.unwrap();
    harness
}

#[tokio::test]
async fn the_most_selective_index_of_a_filter_is_asked_first() {
    let harness = defined().await;
    let catalog = harness.store.catalog();
    let check = |filter: &EventFilter, index, first: Option<Term>| {
        let plan = Plan::new(filter, &catalog).unwrap();
        assert_eq!(plan.index, index, "{filter:?}");
        let asked = plan.query.clauses.first().and_then(|it| it.first()).cloned();
        assert_eq!(asked, first.map(Lookup::Exact), "{filter:?}");
    };
    let schema = catalog.schema_versions(SCHEMA).unwrap()[0].number;
    let definition = catalog.event_definition("dear").unwrap().number;
    // From the last index to the first: each filter has all that the ones before it have.
    let mut filter = EventFilter { condition: Some("price > 2".into()), ..EventFilter::default() };
    check(&filter, FilterIndex::FullScan, None);
    let only = EventFilter { tagged: Tagged::Only, ..EventFilter::default() };
    check(&only, FilterIndex::Dataset, None);
    filter.datasets.push(DatasetName::parse("name", "one").unwrap());
    check(&filter, FilterIndex::Dataset, None);
    filter.schema_versions.push(SchemaVersions { id: SCHEMA.into(), from: 1, to: None });
    check(&filter, FilterIndex::Schema, Some(Term::schema(schema)));
    filter.schemas.push(SCHEMA.into());
    check(&filter, FilterIndex::Schema, Some(Term::schema(schema)));
    filter.event_types.push(EventTypePattern::Exact("visit".into()));
    check(&filter, FilterIndex::EventType, Some(Term::event_type("visit")));
    let delivered = EventFilter { deliver_as: Some("dear".into()), ..filter.clone() };
    check(&delivered, FilterIndex::EventDefinition, Some(Term::event_definition(definition)));
    filter.event_definitions.push("dear".into());
    check(&filter, FilterIndex::EventDefinition, Some(Term::event_definition(definition)));
    filter.identities.push(IdentityPattern { namespace: "Email".into(), id: Some("ann".into()) });
    check(&filter, FilterIndex::Identity, Some(Term::identity("Email", "ann")));
}
