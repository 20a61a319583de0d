//! Finding documents, and taking them along.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Invalid, limits},
    schema::SchemaKind,
    store::{Error, EventStore, SchemaVersion},
};

/// Which documents are listed; what is empty selects all.
#[derive(Clone, Debug, Default)]
pub struct SchemaFilter {
    /// Only these kinds.
    pub kind: Option<SchemaKind>,
    /// In the title or id, in whatever letter case.
    pub text: String,
    /// `$id` of a class.
    pub class: String,
    /// Whether deprecated, or not.
    pub deprecated: Option<bool>,
    /// Leaves out what comes with the server.
    pub exclude_built_in: bool,
}

/// How documents are ordered; equal ones by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaOrder {
    /// By `$id`.
    #[default]
    Id,
    /// By title.
    Title,
    /// By when the first version was registered.
    CreateTime,
}

/// Bytes of a title that order it.
const TITLE_ORDER_BYTES: usize = 256;
/// Bytes of the text to look for.
const TEXT_BYTES_MAX: usize = 256;

impl EventStore {
    /// Latest versions of the documents that a filter selects, each with what orders it, ascending.
    ///
    /// # Errors
    /// When the filter's text is too long.
    pub fn list_schemas(
        &self,
        filter: &SchemaFilter,
        order: SchemaOrder,
    ) -> Result<BTreeMap<String, Arc<SchemaVersion>>, Error> {
        let found = filter.text.len();
        if found > TEXT_BYTES_MAX {
            let message = format!("{found} bytes; at most {TEXT_BYTES_MAX}");
            return Err(Error::OutOfBounds(Invalid::new("text", message)));
        }
        let text = filter.text.to_lowercase();
        let catalog = self.catalog();
        let selected = catalog.schemas().filter(|it| filter.selects(it, &text));
        let key = |it: &Arc<SchemaVersion>| match order {
            SchemaOrder::Id => it.id.to_string(),
            SchemaOrder::Title => format!("{}\0{}", beginning(it.document.title()), it.id),
            SchemaOrder::CreateTime => {
                let versions = catalog.schema_versions(&it.id).unwrap_or_default();
                let first = versions.first().map_or(it.create_time, |it| it.create_time);
                format!("{:020}\0{}", first.micros(), it.id)
            }
        };
        Ok(selected.map(|it| (key(it), Arc::clone(it))).collect())
    }

    /// All versions of a document, oldest first.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn schema_versions(&self, id: &str) -> Result<Vec<Arc<SchemaVersion>>, Error> {
        Ok(self.catalog().schema_versions(id)?.to_vec())
    }

    /// Versions, and all that they judge by, each once, by id and version. None: the latest version of
    /// every document that does not come with the server.
    ///
    /// # Errors
    /// When one does not exist, or there are too many.
    pub fn export_schemas(
        &self,
        begin: &[(String, u32)],
    ) -> Result<Vec<Arc<SchemaVersion>>, Error> {
        let (found, max) = (begin.len(), limits::PAGE_SIZE_MAX);
        if found > max {
            let message = format!("{found} documents; at most {max}");
            return Err(Error::OutOfBounds(Invalid::new("schemas", message)));
        }
        let catalog = self.catalog();
        let begin: Vec<_> = if begin.is_empty() {
            catalog.schemas().filter(|it| !it.built_in).cloned().collect()
        } else {
            let found = begin.iter().map(|(id, version)| catalog.schema(id, *version).cloned());
            found.collect::<Result<_, _>>()?
        };
        let mut all = BTreeMap::new();
        for version in begin {
            for number in &version.references {
                let found = catalog.schema_by_number(*number).ok_or(Error::Corrupt)?;
                all.insert((Arc::clone(&found.id), found.version), Arc::clone(found));
            }
            all.insert((Arc::clone(&version.id), version.version), version);
        }
        Ok(all.into_values().collect())
    }
}

impl SchemaFilter {
    fn selects(&self, version: &SchemaVersion, text: &str) -> bool {
        let document = &version.document;
        self.kind.is_none_or(|it| it == document.kind())
            && !(self.exclude_built_in && version.built_in)
            && self.deprecated.is_none_or(|it| it == version.is_deprecated())
            && (self.class.is_empty() || document.is_of_class(&self.class))
            && (text.is_empty()
                || version.id.to_lowercase().contains(text)
                || document.title().to_lowercase().contains(text))
    }
}

fn beginning(title: &str) -> &str {
    title.get(..title.floor_char_boundary(TITLE_ORDER_BYTES)).unwrap_or(title)
}
