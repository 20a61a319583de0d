//! Events from long form to wire form and back, as their schema names the fields.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    model::{
        Violation,
        json::{Document, Kind, Node, push_token},
        limits,
    },
    schema::{
        SchemaDocument,
        form::{
            Form,
            document::{demanded, is_namespace, long_name},
            name::{likely_long, wire_path},
        },
        space::{At, ROOT, Space, Walk},
    },
};

/// The names of a schema's fields in both forms.
pub struct Forms(Arc<Space>);

/// An event in wire form.
#[derive(Debug)]
pub struct WireEvent {
    /// Its JSON text.
    pub text: String,
    /// Wire pointers by where the value was in long form; only where they differ.
    places: HashMap<String, String>,
}

impl WireEvent {
    /// Where in the long form the value at a pointer into the wire form was.
    #[must_use]
    pub fn long_path(&self, wire: &str) -> String {
        let mut end = wire.len();
        loop {
            let (above, below) = wire.split_at(end);
            if let Some(long) = self.places.get(above) {
                return format!("{long}{below}");
            }
            match above.rfind('/') {
                Some(slash) => end = slash,
                None => return wire.to_owned(),
            }
        }
    }
}

impl Forms {
    /// The names that a schema and the documents of its `closure` give.
    #[must_use]
    pub fn new(root: Arc<SchemaDocument>, closure: &[Arc<SchemaDocument>]) -> Self {
        Self::of(Arc::new(Space::new(root, closure)))
    }

    pub(in crate::schema) fn of(space: Arc<Space>) -> Self {
        Self(space)
    }

    /// The wire form of an event in long form.
    ///
    /// # Errors
    ///
    /// Names that become the same, or nested in what is no object; a text that takes too long.
    pub fn to_wire(&self, event: &Document<'_>) -> Result<WireEvent, Vec<Violation>> {
        let mut writer = Converter::new(self);
        let text = writer.value(event.root(), &[ROOT], None, &mut Place::default(), Way::ToWire);
        let places = std::mem::take(&mut writer.places);
        writer.finish(text.text()).map(|text| WireEvent { text, places })
    }

    /// The long form of an event in wire form; of one that came from the long form that, unless it has
    /// names that its schema does not know.
    ///
    /// # Errors
    ///
    /// Names that become the same; a text that takes too long.
    pub fn to_long(&self, event: &Document<'_>) -> Result<String, Vec<Violation>> {
        let mut writer = Converter::new(self);
        let text = writer.value(event.root(), &[ROOT], None, &mut Place::default(), Way::ToLong);
        writer.finish(text.text())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToWire,
    ToLong,
}

/// Where a value is, before and after.
#[derive(Clone, Debug, Default)]
struct Place {
    from: String,
    to: String,
}

struct Converter<'a> {
    walk: Walk<'a>,
    faults: Vec<Violation>,
    places: HashMap<String, String>,
}

impl<'a> Converter<'a> {
    fn new(forms: &'a Forms) -> Self {
        let walk = Walk::new(&forms.0, limits::FORM_STEPS_MAX);
        Self { walk, faults: Vec::new(), places: HashMap::new() }
    }

    fn finish(self, text: String) -> Result<String, Vec<Violation>> {
        if self.walk.is_exhausted() {
            let most = limits::FORM_STEPS_MAX;
            return Err(vec![fault(
                "",
                &format!("converting the event takes more than {most} steps"),
            )]);
        }
        if self.faults.is_empty() { Ok(text) } else { Err(self.faults) }
    }

    /// Recursion is bounded by the depth of a document.
    fn value(
        &mut self,
        node: Node<'_>,
        schemas: &[At],
        above: Option<&str>,
        place: &mut Place,
        way: Way,
    ) -> Out {
        if self.walk.is_exhausted() {
            return Out::Text(String::new());
        }
        match node.kind() {
            Kind::Object => {
                let schemas = self.walk.expand(schemas);
                let mut object = Object::default();
                match way {
                    Way::ToWire => self.object_to_wire(node, &schemas, above, place, &mut object),
                    Way::ToLong => {
                        let path = &mut Vec::new();
                        self.object_to_long(
                            node,
                            (&schemas, &schemas),
                            above,
                            path,
                            place,
                            &mut object,
                        );
                    }
                }
                Out::Object(object)
            }
            Kind::Array => {
                let elements = self.walk.elements(&self.walk.expand(schemas));
                let mut out = Vec::with_capacity(node.len());
                for (index, element) in node.elements().enumerate() {
                    let mut place = place.below(&index.to_string(), &[index.to_string()]);
                    out.push(self.value(element, &elements, above, &mut place, way));
                }
                Out::Array(out)
            }
            Kind::Null | Kind::Boolean | Kind::Number | Kind::String => {
                Out::Text(node.to_value().to_string())
            }
        }
    }

    fn object_to_wire(
        &mut self,
        node: Node<'_>,
        schemas: &[At],
        above: Option<&str>,
        place: &Place,
        object: &mut Object,
    ) {
        for (name, value) in node.members() {
            let (path, fields) = match self.wire_field(schemas, name, above) {
                Ok(found) => found,
                Err(long) => {
                    let at = place.below(name, &[]);
                    let message =
                        format!("`{name}` is a name of the wire form; in long form it is `{long}`");
                    self.fail(&at.from, &message);
                    continue;
                }
            };
            let mut place = place.below(name, &path);
            if path != [name] {
                self.places.insert(place.to.clone(), place.from.clone());
            }
            let out = self.value(value, &fields, Some(name), &mut place, Way::ToWire);
            if let Err(taken) = object.put(&path, out) {
                let message = format!("`{name}` becomes `{}`, {taken}", path.join("."));
                self.fail(&place.from, &message);
            }
        }
    }

    /// The wire path of a long name, and the fields there; `Err` is the long name of the field that the
    /// name is for in wire form. A name that no schema knows stays as it is.
    fn wire_field(
        &self,
        schemas: &[At],
        name: &str,
        above: Option<&str>,
    ) -> Result<(Vec<String>, Vec<At>), &'a str> {
        let by_rule = wire_path(name, above);
        let full = wire_path(name, None);
        let own = vec![name.to_owned()];
        let mut other = None;
        for path in [&by_rule, &full, &own] {
            let fields = self.walk.fields(schemas, path);
            match self.walk.long_name(&fields) {
                Some(long) if long == name => return Ok((path.clone(), fields)),
                Some(long) if *path == own => other = Some(long),
                None if *path == own && self.holds_names(&fields, above, path) => {
                    other = fields.iter().find_map(|it| first_long_name(self.walk.json(*it)?));
                }
                None if self.is_unnamed(&fields, above, path, *path == own) => {
                    return Ok((path.clone(), fields));
                }
                Some(_) | None => (),
            }
        }
        if let Some(other) = other {
            return Err(other);
        }
        let data = self.walk.data(schemas);
        let demands = |it: &Value| demanded(it).any(|it| it == name);
        let demanded = schemas.iter().filter_map(|it| self.walk.json(*it)).any(demands);
        let in_namespace = |path: &[String]| {
            let mut above_it = 1..path.len();
            let known = |levels: usize| {
                let namespace = path.get(..levels).unwrap_or_default();
                self.holds_names(&self.walk.fields(schemas, namespace), above, namespace)
            };
            path.len() > 1 && self.walk.fields(schemas, path).is_empty() && above_it.all(known)
        };
        if demanded || in_namespace(&by_rule) { Ok((by_rule, data)) } else { Ok((own, data)) }
    }

    /// Whether these are fields without a long name of their own, which a name may mean: those of wire
    /// documents, whose writer may not have told them, and fields that are named alike in both forms.
    fn is_unnamed(&self, fields: &[At], above: Option<&str>, path: &[String], same: bool) -> bool {
        let is_wire = |it: &At| {
            self.walk
                .space
                .documents
                .get(it.0)
                .is_some_and(|document| document.form() == Form::Wire)
        };
        !self.holds_names(fields, above, path) && fields.iter().any(|it| same || is_wire(it))
    }

    /// Whether some schema takes the object at a path only for the holder of a namespace's names.
    fn holds_names(&self, fields: &[At], above: Option<&str>, path: &[String]) -> bool {
        fields.iter().filter_map(|it| self.walk.json(*it)).any(|it| is_namespace(it, above, path))
    }

    /// `schemas`: those of the object, and those of the namespace in it that `node` is, at `path`.
    fn object_to_long(
        &mut self,
        node: Node<'_>,
        (outer, schemas): (&[At], &[At]),
        above: Option<&str>,
        path: &mut Vec<String>,
        place: &Place,
        object: &mut Object,
    ) {
        for (name, value) in node.members() {
            let fields = self.walk.below(schemas, &["properties", name]);
            let mut below = place.below(name, &[name.to_owned()]);
            path.push(name.to_owned());
            let long = self.walk.long_name(&fields).map(str::to_owned);
            let nested =
                long.is_none() && value.is_object() && self.holds_names(&fields, above, path);
            if nested {
                let inner = self.walk.expand(&fields);
                self.object_to_long(value, (outer, &inner), above, path, &below, object);
                path.pop();
                continue;
            }
            let (long, fields) = match long {
                Some(long) => (long, fields),
                None if !fields.is_empty() => (name.to_owned(), fields),
                None => {
                    let demanded =
                        outer.iter().filter_map(|it| self.walk.json(*it)).flat_map(demanded);
                    let mut demanded = demanded.filter(|it| wire_path(it, above) == *path);
                    let long = demanded.next().map(str::to_owned);
                    (long.unwrap_or_else(|| likely_long(path)), self.walk.data(schemas))
                }
            };
            path.pop();
            let out = self.value(value, &fields, Some(&long), &mut below, Way::ToLong);
            if object.put(std::slice::from_ref(&long), out).is_err() {
                self.fail(
                    &below.from,
                    &format!("`{name}` becomes `{long}`, which is there already"),
                );
            }
        }
    }

    fn fail(&mut self, at: &str, message: &str) {
        if self.faults.len() < limits::VIOLATIONS_MAX {
            self.faults.push(fault(at, message));
        }
    }
}

/// The long name of some field in a namespace.
fn first_long_name(schema: &Value) -> Option<&str> {
    let mut fields = schema.get("properties")?.as_object()?.values();
    long_name(schema)
        .or_else(|| fields.find_map(|it| long_name(it).or_else(|| first_long_name(it))))
}

impl Place {
    fn below(&self, from: &str, to: &[String]) -> Self {
        let mut place = self.clone();
        push_token(&mut place.from, from);
        for it in to {
            push_token(&mut place.to, it);
        }
        place
    }
}

fn fault(at: &str, message: &str) -> Violation {
    let message = crate::schema::violation::shorten(message);
    let mut violation = Violation::of_event(at, "form", message);
    violation.shorten_path();
    violation
}

/// JSON being written, members in the order in which they came.
enum Out {
    Text(String),
    Array(Vec<Out>),
    Object(Object),
}

#[derive(Default)]
struct Object {
    members: Vec<(String, Out)>,
    places: HashMap<String, usize>,
    /// Whether it came to be as the holder of nested names.
    holder: bool,
}

impl Object {
    /// Puts a value at a path; `Err` tells what stands there.
    fn put(&mut self, path: &[String], value: Out) -> Result<(), &'static str> {
        let Some((first, rest)) = path.split_first() else { return Ok(()) };
        let place = self.places.get(first).copied();
        if rest.is_empty() {
            if place.is_some() {
                return Err("which is there already");
            }
            self.push(first, value);
            return Ok(());
        }
        let place = place.unwrap_or_else(|| {
            self.push(first, Out::Object(Self { holder: true, ..Self::default() }))
        });
        match self.members.get_mut(place) {
            Some((_, Out::Object(inner))) if inner.holder => inner.put(rest, value),
            Some(_) | None => Err("within a value that is there already"),
        }
    }

    fn push(&mut self, name: &str, value: Out) -> usize {
        let place = self.members.len();
        self.members.push((name.to_owned(), value));
        self.places.insert(name.to_owned(), place);
        place
    }
}

impl Out {
    fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Text(own) => text.push_str(own),
            Self::Array(elements) => {
                text.push('[');
                for (place, element) in elements.iter().enumerate() {
                    if place > 0 {
                        text.push(',');
                    }
                    element.write(text);
                }
                text.push(']');
            }
            Self::Object(object) => {
                text.push('{');
                for (place, (name, value)) in object.members.iter().enumerate() {
                    if place > 0 {
                        text.push(',');
                    }
                    text.push_str(&Value::from(name.as_str()).to_string());
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }
}
