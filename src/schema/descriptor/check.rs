//! Whether a descriptor is well formed, and whether its field is what it says.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Invalid, json::unescape_token, limits, shorten},
    schema::{
        Descriptor, DescriptorKind, FieldType, SchemaDocument, field_type,
        space::{At, ROOT, Space, Walk},
    },
};

impl Descriptor {
    /// Everything wrong with a descriptor by itself; fields are those of the contract's message.
    #[must_use]
    pub fn faults(&self) -> Vec<Invalid> {
        let mut faults = Vec::new();
        check_path("path", &self.path, &mut faults);
        if self.wants_one_value() && self.path.split('/').any(|it| it == "*") {
            let message = format!("`{}` leads to many values; wanted one", shorten(&self.path));
            faults.push(Invalid::new("path", message));
        }
        match &self.kind {
            DescriptorKind::Identity { namespace, .. } => {
                if namespace.is_empty() {
                    faults.push(Invalid::new("identity.namespace", "missing"));
                }
                check_text("identity.namespace", namespace, NAMESPACE, &mut faults);
            }
            DescriptorKind::Timestamp | DescriptorKind::Version => {}
            DescriptorKind::Relationship(it) => {
                if !it.path.is_empty() {
                    check_path("relationship.destination_path", &it.path, &mut faults);
                }
                let at = "relationship.destination_namespace";
                check_text(at, &it.namespace, NAMESPACE, &mut faults);
            }
            DescriptorKind::FriendlyName { titles, descriptions } => {
                if titles.is_empty() && descriptions.is_empty() {
                    let message = "says nothing; wanted a title or a description";
                    faults.push(Invalid::new("friendly_name", message));
                }
                check_texts("friendly_name.titles", titles, &mut faults);
                check_texts("friendly_name.descriptions", descriptions, &mut faults);
            }
            DescriptorKind::Label(labels) => check_labels(labels, &mut faults),
            DescriptorKind::Deprecated { successor, reason } => {
                if !successor.is_empty() {
                    check_path("deprecated.successor_path", successor, &mut faults);
                }
                let max = limits::DESCRIPTOR_TEXT_BYTES_MAX;
                check_text("deprecated.reason", reason, max, &mut faults);
            }
        }
        faults
    }

    fn wants_one_value(&self) -> bool {
        match self.kind {
            DescriptorKind::Identity { .. }
            | DescriptorKind::Timestamp
            | DescriptorKind::Version => true,
            DescriptorKind::Relationship(_)
            | DescriptorKind::FriendlyName { .. }
            | DescriptorKind::Label(_)
            | DescriptorKind::Deprecated { .. } => false,
        }
    }

    /// What a schema with its `closure` lacks of what the descriptor says about it.
    #[must_use]
    pub fn misfits(
        &self,
        root: &Arc<SchemaDocument>,
        closure: &[Arc<SchemaDocument>],
    ) -> Vec<Invalid> {
        let space = Space::new(Arc::clone(root), closure);
        let fields = Fields(Walk::new(&space, limits::FORM_STEPS_MAX));
        let (path, id) = (&self.path, root.id());
        let Some(found) = fields.find(path) else {
            return vec![Invalid::new("path", format!("`{path}` is not a field of schema `{id}`"))];
        };
        let types: Option<&[FieldType]> = match &self.kind {
            DescriptorKind::Identity { .. } => {
                Some(&[FieldType::String, FieldType::Uri, FieldType::Enum])
            }
            DescriptorKind::Timestamp => Some(&[FieldType::DateTime]),
            DescriptorKind::Version => Some(&[
                FieldType::Byte,
                FieldType::Short,
                FieldType::Int,
                FieldType::Long,
                FieldType::Number,
                FieldType::Date,
                FieldType::DateTime,
            ]),
            DescriptorKind::Relationship(_) => Some(&[
                FieldType::String,
                FieldType::Uri,
                FieldType::Enum,
                FieldType::Byte,
                FieldType::Short,
                FieldType::Int,
                FieldType::Long,
            ]),
            DescriptorKind::FriendlyName { .. }
            | DescriptorKind::Label(_)
            | DescriptorKind::Deprecated { .. } => None,
        };
        let mut faults = Vec::new();
        if let Some(types) = types {
            let own = fields.type_of(&found);
            if !own.is_some_and(|it| types.contains(&it)) {
                let name = own.map_or("no type", FieldType::name);
                let wanted: Vec<&str> = types.iter().map(|it| it.name()).collect();
                let wanted = wanted.join("`, `");
                let message = format!("`{path}` is of type `{name}`; wanted `{wanted}`");
                faults.push(Invalid::new("path", message));
            }
        }
        if let DescriptorKind::Deprecated { successor, .. } = &self.kind
            && !successor.is_empty()
            && fields.find(successor).is_none()
        {
            let message = format!("`{successor}` is not a field of schema `{id}`");
            faults.push(Invalid::new("deprecated.successor_path", message));
        }
        faults
    }

    /// What the schema that a relationship leads to lacks; nothing for other kinds.
    #[must_use]
    pub fn destination_misfits(
        &self,
        destination: &Arc<SchemaDocument>,
        closure: &[Arc<SchemaDocument>],
    ) -> Vec<Invalid> {
        let DescriptorKind::Relationship(it) = &self.kind else { return Vec::new() };
        let space = Space::new(Arc::clone(destination), closure);
        let fields = Fields(Walk::new(&space, limits::FORM_STEPS_MAX));
        if it.path.is_empty() || fields.find(&it.path).is_some() {
            return Vec::new();
        }
        let message = format!("`{}` is not a field of schema `{}`", it.path, destination.id());
        vec![Invalid::new("relationship.destination_path", message)]
    }
}

struct Fields<'a>(Walk<'a>);

impl Fields<'_> {
    /// The schemas of a field; `None` when none describes it.
    fn find(&self, path: &str) -> Option<Vec<At>> {
        let mut found = vec![ROOT];
        for token in path.strip_prefix('/')?.split('/') {
            let name = unescape_token(token);
            let schemas = self.0.expand(&found);
            found = self.0.below(&schemas, &["properties", &name]);
            if found.is_empty() && name == "*" {
                found = self.0.elements(&schemas);
                found.extend(self.0.data(&schemas));
            }
            if found.is_empty() || self.0.is_exhausted() {
                return None;
            }
        }
        Some(found)
    }

    fn type_of(&self, field: &[At]) -> Option<FieldType> {
        let all = self.0.expand(field);
        field.iter().chain(&all).filter_map(|it| self.0.json(*it)).find_map(field_type::derive)
    }
}

const NAMESPACE: usize = limits::NAMESPACE_CODE_BYTES_MAX;

fn check_path(field: &str, path: &str, faults: &mut Vec<Invalid>) {
    let (found, max) = (path.len(), limits::DESCRIPTOR_PATH_BYTES_MAX);
    if found > max {
        faults.push(Invalid::new(field, format!("{found} bytes; at most {max}")));
    } else if !path.starts_with('/') || path.ends_with('/') || path.contains("//") {
        let message = format!("`{}`; wanted a path such as `/a/b`", shorten(path));
        faults.push(Invalid::new(field, message));
    }
}

fn check_text(field: &str, text: &str, max: usize, faults: &mut Vec<Invalid>) {
    let found = text.len();
    if found > max {
        faults.push(Invalid::new(field, format!("{found} bytes; at most {max}")));
    } else if text.contains(char::is_control) {
        faults.push(Invalid::new(field, "has characters that do not print"));
    }
}

fn check_texts(field: &str, texts: &BTreeMap<String, String>, faults: &mut Vec<Invalid>) {
    let (found, max) = (texts.len(), limits::DESCRIPTOR_LANGUAGES_MAX);
    if found > max {
        faults.push(Invalid::new(field, format!("{found} languages; at most {max}")));
        return;
    }
    for (language, text) in texts {
        let at = format!("{field}[{}]", shorten(language));
        let allowed = |it: u8| it.is_ascii_alphanumeric() || b"-_".contains(&it);
        if !(1..=35).contains(&language.len()) || !language.bytes().all(allowed) {
            faults.push(Invalid::new(&at, "wanted a language tag such as `en_us`"));
        }
        check_text(&at, text, limits::DESCRIPTOR_TEXT_BYTES_MAX, faults);
    }
}

fn check_labels(labels: &[String], faults: &mut Vec<Invalid>) {
    let (found, max) = (labels.len(), limits::DESCRIPTOR_LABELS_MAX);
    if !(1..=max).contains(&found) {
        faults.push(Invalid::new("label.labels", format!("{found} labels; wanted 1 to {max}")));
        return;
    }
    for (place, label) in labels.iter().enumerate() {
        let at = format!("label.labels[{place}]");
        if label.is_empty() || labels.iter().take(place).any(|it| it == label) {
            let message = format!("`{}` is empty, or stands twice", shorten(label));
            faults.push(Invalid::new(&at, message));
        }
        check_text(&at, label, limits::NAME_BYTES_MAX, faults);
    }
}
