//! Documents that are to be judged, as they were read.

use std::sync::Arc;

use crate::{
    schema::{Descriptor, Fault, SchemaDocument, SchemaProblem},
    store::{
        Error,
        registry::{
            SchemaInput,
            judge::each::{Stop, each},
        },
    },
};

/// Documents as they were read, or why they could not be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    pub(super) documents: Vec<Result<Arc<SchemaDocument>, SchemaProblem>>,
    /// What the sender calls them, in the same order.
    names: Vec<String>,
    /// Of each, the first place where a key stands twice.
    repeated: Vec<Option<Fault>>,
    /// What is to be said about these documents, and others.
    descriptors: Vec<Descriptor>,
}

/// What becomes of a document in which a key stands twice in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepeatedKeys {
    Refused,
    /// The last one counts, and that is told: whose library has such documents cannot mend them.
    Last,
}

impl Candidates {
    /// Reads documents, on all cores.
    pub(crate) fn parse(
        inputs: Vec<SchemaInput>,
        repeated: RepeatedKeys,
        stop: Stop<'_>,
    ) -> Result<Self, Error> {
        let parse = |it: &SchemaInput| {
            Ok(match repeated {
                RepeatedKeys::Refused => SchemaDocument::parse(&it.document).map(|it| (it, None)),
                RepeatedKeys::Last => SchemaDocument::parse_last(&it.document),
            })
        };
        let (mut documents, mut repeated) = (Vec::new(), Vec::new());
        for parsed in each(&inputs, stop, parse)? {
            let (document, found) = match parsed {
                Ok((document, found)) => (Ok(Arc::new(document)), found),
                Err(problem) => (Err(problem), None),
            };
            documents.push(document);
            repeated.push(found);
        }
        let names = inputs.into_iter().map(|it| it.name).collect();
        Ok(Self { documents, names, repeated, descriptors: Vec::new() })
    }

    /// No documents, but what is to be said about others.
    pub(crate) fn of_descriptors(descriptors: Vec<Descriptor>) -> Self {
        Self { descriptors, ..Self::default() }
    }

    /// The same, and what is to be said about them.
    pub(crate) fn with_descriptors(self, descriptors: Vec<Descriptor>) -> Self {
        Self { descriptors, ..self }
    }

    pub(crate) fn descriptors(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// Where a key of a document stands twice, of which the last one counts.
    pub(crate) fn repeated(&self, place: usize) -> Option<&Fault> {
        self.repeated.get(place)?.as_ref()
    }

    /// The `$id` of a document that could be read.
    pub(crate) fn id(&self, place: usize) -> Option<&str> {
        self.documents.get(place)?.as_ref().ok().map(|it| it.id())
    }

    /// What the sender calls a document, or its place.
    pub(super) fn name(&self, place: usize) -> String {
        let name = self.names.get(place).filter(|it| !it.is_empty());
        name.map_or_else(|| format!("documents[{place}]"), |it| format!("`{it}`"))
    }
}

impl FromIterator<SchemaDocument> for Candidates {
    fn from_iter<I: IntoIterator<Item = SchemaDocument>>(documents: I) -> Self {
        let documents = documents.into_iter().map(|it| Ok(Arc::new(it))).collect();
        Self { documents, ..Self::default() }
    }
}
