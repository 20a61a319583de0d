mod bounds;
mod described;
mod descriptors;
mod documents;
mod forms;
mod judging;
mod library;
mod library_views;
mod references;
mod tenant;

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    model::{Violation, json::Document, limits},
    schema::{CompiledSchema, SchemaDocument, SchemaProblem, built_in, closure, compile},
};

/// Documents by `$id`, as a registry would hold them.
#[derive(Default)]
pub(super) struct Library(HashMap<String, Arc<SchemaDocument>>);

impl Library {
    pub(super) fn of(documents: &[Value]) -> Self {
        let mut library = Self::default();
        for document in documents {
            library.add(SchemaDocument::parse(&document.to_string()).unwrap());
        }
        library
    }

    fn add(&mut self, document: SchemaDocument) {
        self.0.insert(document.id().to_owned(), Arc::new(document));
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<SchemaDocument>> {
        self.0.get(id).cloned()
    }

    pub(super) fn get(&self, id: &str) -> Arc<SchemaDocument> {
        Arc::clone(&self.0[id])
    }

    fn add_built_ins(&mut self) {
        for document in built_in() {
            self.add(document);
        }
    }

    fn compile(&self, id: &str) -> Result<CompiledSchema, SchemaProblem> {
        self.compile_document(&self.0[id])
    }

    fn compile_document(
        &self,
        root: &Arc<SchemaDocument>,
    ) -> Result<CompiledSchema, SchemaProblem> {
        let closure = closure(root, |id| self.0.get(id).cloned())?;
        compile(root, &closure)
    }
}

/// Reads and compiles one document that refers to nothing else.
fn alone(document: &Value) -> Result<CompiledSchema, SchemaProblem> {
    let document = Arc::new(SchemaDocument::parse(&document.to_string())?);
    Library::default().compile_document(&document)
}

fn judge(schema: &CompiledSchema, event: &Value) -> Vec<Violation> {
    judge_text(schema, &event.to_string())
}

fn judge_text(schema: &CompiledSchema, event: &str) -> Vec<Violation> {
    schema.violations(&Document::parse(event).unwrap(), limits::VIOLATIONS_MAX)
}
