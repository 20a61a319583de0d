//! What applies to one and the same value: no loops, no explosion, no bottomless chain.
//!
//! The JSON Schema crate follows these edges at every value of an event, and remembers nothing
//! between two paths to the same schema. So their number is bounded before it ever runs.

use std::{collections::HashMap, sync::Arc};

use crate::{
    model::limits,
    schema::{
        SchemaDocument, SchemaProblem,
        closure::unresolved,
        outline::{Binding, SchemaIndex},
    },
};

/// All schemas of all documents of a closure, the root document's first.
pub(super) struct Graph<'a> {
    documents: Vec<&'a SchemaDocument>,
    /// Where each document's schemas start.
    starts: Vec<usize>,
    /// For each schema, those that apply to the same value.
    edges: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    /// Resolves every reference of every document.
    pub(super) fn new(
        root: &'a SchemaDocument,
        closure: &'a [Arc<SchemaDocument>],
    ) -> Result<Self, SchemaProblem> {
        let documents: Vec<&SchemaDocument> =
            std::iter::once(root).chain(closure.iter().map(Arc::as_ref)).collect();
        let owners = resource_owners(&documents)?;
        let mut starts = Vec::with_capacity(documents.len());
        let mut count = 0;
        for document in &documents {
            starts.push(count);
            count += document.outline.schemas.len();
        }
        let mut graph = Self { documents, starts, edges: Vec::with_capacity(count) };
        let floating = graph.floating();
        for (place, document) in graph.documents.iter().enumerate() {
            let start = graph.start(place);
            for schema in &document.outline.schemas {
                let mut edges: Vec<usize> = schema.in_place.iter().map(|it| start + it).collect();
                for reference in &schema.references {
                    graph.follow(document, *reference, &owners, &floating, &mut edges)?;
                }
                graph.edges.push(edges);
            }
        }
        Ok(graph)
    }

    fn start(&self, document: usize) -> usize {
        self.starts.get(document).copied().unwrap_or_default()
    }

    /// Adds the schemas that one reference can lead to.
    fn follow(
        &self,
        document: &SchemaDocument,
        reference: usize,
        owners: &HashMap<&str, usize>,
        floating: &Floating<'_>,
        edges: &mut Vec<usize>,
    ) -> Result<(), SchemaProblem> {
        let Some((reference, binding)) = document.outline.references.get(reference) else {
            return Ok(());
        };
        let Some(owner) = owners.get(reference.target.as_str()).copied() else {
            return Err(unresolved(document, reference, "which is not registered"));
        };
        let found = self
            .documents
            .get(owner)
            .and_then(|it| it.outline.find(&reference.target, &reference.fragment));
        let Some(found) = found else {
            return Err(unresolved(document, reference, "where there is no schema"));
        };
        edges.push(self.start(owner) + found);
        match binding {
            Binding::Fixed => (),
            Binding::Recursive => edges.extend(&floating.recursive),
            Binding::Dynamic => {
                let same = floating.dynamic.iter().filter(|(it, _)| *it == reference.fragment);
                edges.extend(same.map(|(_, schema)| schema));
            }
        }
        if *binding != Binding::Fixed {
            edges.sort_unstable();
            edges.dedup();
        }
        Ok(())
    }

    fn floating(&self) -> Floating<'a> {
        let mut floating = Floating { recursive: Vec::new(), dynamic: Vec::new() };
        for (place, document) in self.documents.iter().enumerate() {
            let start = self.start(place);
            let outline = &document.outline;
            floating.recursive.extend(outline.recursive_anchors.iter().map(|it| start + it));
            let dynamic = outline.dynamic_anchors.iter();
            floating.dynamic.extend(dynamic.map(|(name, it)| (name.as_str(), start + it)));
        }
        floating
    }

    /// Refuses loops, and schemas too large or too deep for judging one value.
    pub(super) fn check(&self) -> Result<(), SchemaProblem> {
        let mut costs: Vec<Cost> = vec![Cost::Unknown; self.edges.len()];
        for schema in 0..self.edges.len() {
            self.measure(schema, &mut costs)?;
        }
        Ok(())
    }

    /// Depth-first, with its own stack: a chain of references can be long.
    fn measure(&self, from: usize, costs: &mut [Cost]) -> Result<(), SchemaProblem> {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if matches!(costs.get(from), Some(Cost::Unknown)) {
            path.push((from, 0));
        }
        while let Some((schema, edge)) = path.pop() {
            let edges = self.edges.get(schema).map_or(&[][..], Vec::as_slice);
            if let Some(next) = edges.get(edge) {
                set(costs, schema, Cost::Open);
                path.push((schema, edge + 1));
                match costs.get(*next) {
                    Some(Cost::Open) => return Err(self.cycle(&path, *next)),
                    Some(Cost::Unknown) => path.push((*next, 0)),
                    Some(Cost::Known { .. }) | None => (),
                }
                continue;
            }
            let mut paths = 1_usize;
            let mut depth = 0_usize;
            for next in edges {
                if let Some(Cost::Known { paths: more, depth: below }) = costs.get(*next) {
                    paths = paths.saturating_add(*more);
                    depth = depth.max(*below);
                }
            }
            depth += 1;
            if paths > limits::SCHEMA_PATHS_MAX || depth > limits::SCHEMA_CHAIN_MAX {
                return Err(self.too_large(schema, paths, depth));
            }
            set(costs, schema, Cost::Known { paths, depth });
        }
        Ok(())
    }

    fn cycle(&self, path: &[(usize, usize)], back_to: usize) -> SchemaProblem {
        let begin = path.iter().position(|(it, _)| *it == back_to).unwrap_or_default();
        let members: Vec<usize> =
            path.iter().skip(begin).map(|(it, _)| *it).chain([back_to]).collect();
        let in_root = members.iter().find(|it| self.place(**it).0 == 0);
        let mut names: Vec<String> = members.iter().map(|it| self.name(*it)).collect();
        if names.len() > 12 {
            names.splice(6..names.len() - 5, ["…".to_owned()]);
        }
        SchemaProblem::Cycle {
            pointer: in_root.map_or(String::new(), |it| self.pointer(*it).to_owned()),
            message: format!("schemas apply each other without end: {}", names.join(" -> ")),
        }
    }

    fn too_large(&self, schema: usize, paths: usize, depth: usize) -> SchemaProblem {
        let (paths_max, depth_max) = (limits::SCHEMA_PATHS_MAX, limits::SCHEMA_CHAIN_MAX);
        let message = if depth > depth_max {
            format!("a chain of {depth} schemas applies to one value; at most {depth_max}")
        } else {
            format!("at least {paths} schemas apply to one value; at most {paths_max}")
        };
        let inside = self.place(schema).0 == 0;
        SchemaProblem::TooLarge {
            pointer: if inside { self.pointer(schema).to_owned() } else { String::new() },
            message: format!("{message}, at `{}`", self.name(schema)),
        }
    }

    fn place(&self, schema: usize) -> (usize, SchemaIndex) {
        let document = self.starts.partition_point(|start| *start <= schema).saturating_sub(1);
        (document, schema - self.start(document))
    }

    fn pointer(&self, schema: usize) -> &str {
        let (document, index) = self.place(schema);
        let schemas = self.documents.get(document).map(|it| &it.outline.schemas);
        schemas.and_then(|it| it.get(index)).map_or("", |it| &it.pointer)
    }

    fn name(&self, schema: usize) -> String {
        let id = self.documents.get(self.place(schema).0).map_or("", |it| it.id());
        format!("{id}#{}", self.pointer(schema))
    }
}

/// Targets that depend on the way to them; taken as all possible ones.
struct Floating<'a> {
    recursive: Vec<usize>,
    dynamic: Vec<(&'a str, usize)>,
}

#[derive(Clone, Copy)]
enum Cost {
    Unknown,
    /// On the path being followed.
    Open,
    /// `paths`: ways to apply a schema to the value from here. `depth`: the longest of them.
    Known {
        paths: usize,
        depth: usize,
    },
}

fn set(costs: &mut [Cost], schema: usize, cost: Cost) {
    if let Some(slot) = costs.get_mut(schema) {
        *slot = cost;
    }
}

/// The document of each `$id`, embedded ones included; an `$id` of two documents is refused, for
/// the JSON Schema crate would silently take one of them.
fn resource_owners<'a>(
    documents: &[&'a SchemaDocument],
) -> Result<HashMap<&'a str, usize>, SchemaProblem> {
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for (place, document) in documents.iter().enumerate() {
        for (id, schema) in &document.outline.resources {
            let Some(before) = owners.insert(id, place) else { continue };
            let other = documents.get(before).map_or("", |it| it.id());
            let at = document.outline.schemas.get(*schema).map_or("", |it| &it.pointer);
            let pointer = if place == 0 { format!("{at}/$id") } else { String::new() };
            let message = format!("`{}` and `{other}` both define `$id` `{id}`", document.id());
            return Err(SchemaProblem::invalid(pointer, message));
        }
    }
    Ok(owners)
}
