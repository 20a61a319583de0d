//! What a schema comes to: an event that it accepts, and all fields of a class.

use std::sync::Arc;

use crate::{
    model::{json::Document, limits},
    schema::{self, Random, SchemaKind, Union},
    store::{Error, EventStore, SchemaVersion, ingest::Judge, registry::import::stoppable},
};

/// An instance that a schema accepts.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The schema version that accepts it.
    pub version: Arc<SchemaVersion>,
    /// JSON text.
    pub json: String,
}

/// How full the tries are, in percent of the optional fields: ever less, for each is a risk.
const TRIES: [usize; 12] = [70, 60, 50, 40, 30, 20, 10, 5, 2, 1, 0, 0];

impl EventStore {
    /// Makes an instance that a schema version accepts; 0 is the latest. The same seed makes the same.
    ///
    /// # Errors
    /// When the version does not exist, or no try is accepted.
    pub async fn sample(
        &self,
        id: &str,
        version: u32,
        seed: u64,
        required_only: bool,
    ) -> Result<Sample, Error> {
        let catalog = self.catalog();
        let version = Arc::clone(catalog.schema(id, version)?);
        let store = self.clone();
        stoppable(move |stop| {
            let closure = catalog.closure(&version)?;
            let compiled = store.compiled(&catalog, &version)?;
            let is_for_events = schema::is_for_events(&version.document, &closure);
            let mut judge = Judge::by_schema(0, 0, compiled);
            judge.fields = catalog.event_fields(&version.id, &judge.fields);
            for (place, percent) in (0..).zip(TRIES) {
                stop()?;
                let random = Random::new(seed.rotate_left(32) ^ place);
                let percent = if required_only { 0 } else { percent };
                let made = schema::sample(&version.document, &closure, random, percent);
                let Some(json) = made.map(|it| it.to_string()) else { continue };
                let accepted = if is_for_events {
                    judge.event(&json).is_ok()
                } else {
                    let document = Document::parse(&json).map_err(|_deep| Error::Internal);
                    document.is_ok_and(|it| judge.compiled.violations(&it, 1).is_empty())
                };
                if accepted {
                    return Ok(Sample { version, json });
                }
            }
            Err(Error::NoSample(version.id.to_string()))
        })
        .await
    }

    /// All fields of all schemas of a class, with the ids of the schemas.
    ///
    /// # Errors
    /// When there is no such class, or it has too many schemas or fields.
    pub async fn union(&self, class: &str) -> Result<(Union, Vec<String>), Error> {
        let catalog = self.catalog();
        catalog.latest_schema(class)?;
        let class = class.to_owned();
        stoppable(move |_stop| {
            let is_schema = |it: &&Arc<SchemaVersion>| {
                it.document.kind() == SchemaKind::Schema && it.document.is_of_class(&class)
            };
            let schemas: Vec<_> = catalog.schemas().filter(is_schema).collect();
            if schemas.len() > limits::UNION_SCHEMAS_MAX {
                let max = limits::UNION_SCHEMAS_MAX;
                return Err(Error::Limit { what: "schemas of a union", max });
            }
            let ids = schemas.iter().map(|it| it.id.to_string()).collect();
            let whole =
                |it: &&Arc<SchemaVersion>| Ok((Arc::clone(&it.document), catalog.closure(it)?));
            let schemas = schemas.iter().map(whole).collect::<Result<Vec<_>, Error>>()?;
            Ok((schema::union(&class, &schemas)?, ids))
        })
        .await
    }
}
