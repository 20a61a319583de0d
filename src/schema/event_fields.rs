//! The fields of an event that are more than data: identities, its time, what orders it.

use crate::{
    model::Violation,
    schema::{Descriptor, DescriptorKind, IdentityField},
};

/// The fields of an event that descriptors speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFields {
    /// Fields that hold identities, one for each path, at most one of them primary.
    pub identities: Vec<IdentityField>,
    /// Path of the field that is the event's time, if it is not `/timestamp`.
    pub time: Option<String>,
    /// Path of the field that orders events about one thing; every event must have it.
    pub version: Option<String>,
    /// Paths of fields whose values are personal: they are never told in messages.
    pub personal: Vec<String>,
}

/// Labels of what identifies a person, and of what is sensitive, as XDM has them.
const PERSONAL_LABELS: [&str; 4] = ["I1", "I2", "S1", "S2"];
/// What is said instead of a value.
const HIDDEN: &str = "the value is not as it should be; it is personal and not shown";
/// Rules whose messages name keys alone.
const KEYS_ONLY: [&str; 2] = ["required", "additionalProperties"];

impl EventFields {
    /// These fields, and those of descriptors beside the schema, which win: where both speak of a
    /// field, and over which identity is the primary one.
    #[must_use]
    pub fn with<'a>(&self, descriptors: impl Iterator<Item = &'a Descriptor>) -> Self {
        let mut fields = Self::default();
        for descriptor in descriptors {
            let path = descriptor.path.clone();
            match &descriptor.kind {
                DescriptorKind::Identity { namespace, primary } => {
                    let (namespace, primary) = (namespace.clone(), *primary);
                    fields.identities.push(IdentityField { path, namespace, primary });
                }
                DescriptorKind::Timestamp => fields.time = Some(path),
                DescriptorKind::Version => fields.version = Some(path),
                DescriptorKind::Relationship(_)
                | DescriptorKind::FriendlyName { .. }
                | DescriptorKind::Deprecated { .. } => {}
                DescriptorKind::Label(labels) => {
                    if labels.iter().any(|it| PERSONAL_LABELS.contains(&it.as_str())) {
                        fields.personal.push(path);
                    }
                }
            }
        }
        let has_primary = fields.identities.iter().any(|it| it.primary);
        for own in &self.identities {
            if fields.identities.iter().all(|it| it.path != own.path) {
                let primary = own.primary && !has_primary;
                fields.identities.push(IdentityField { primary, ..own.clone() });
            }
        }
        fields.time = fields.time.or_else(|| self.time.clone());
        fields.version = fields.version.or_else(|| self.version.clone());
        fields.personal.extend(self.personal.iter().cloned());
        fields
    }

    /// Takes what is personal out of what is said about an event.
    pub fn hide_personal(&self, violation: &mut Violation) {
        let is_about = |personal: &String| {
            let below = is_at_or_below(&violation.instance_path, personal);
            // What is said of a value around it shows it, too.
            let around = || is_at_or_below(personal, &violation.instance_path);
            below || (!KEYS_ONLY.contains(&violation.keyword.as_str()) && around())
        };
        if self.personal.iter().any(is_about) {
            HIDDEN.clone_into(&mut violation.message);
            violation.expected.clear();
            violation.found.clear();
        }
    }
}

/// Whether a pointer leads to what another one leads to, or into it; `*` is any token.
fn is_at_or_below(pointer: &str, other: &str) -> bool {
    let mut tokens = pointer.split('/');
    other.split('/').all(|wanted| {
        tokens.next().is_some_and(|token| token == wanted || token == "*" || wanted == "*")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_personal_values_is_hidden() {
        let personal = vec!["/person/email".to_owned(), "/list/*/name".to_owned()];
        let fields = EventFields { personal, ..EventFields::default() };
        let hidden = |path: &str, keyword: &str| {
            let mut violation = Violation {
                instance_path: path.to_owned(),
                schema_path: String::new(),
                keyword: keyword.to_owned(),
                message: "told".to_owned(),
                expected: "told".to_owned(),
                found: "told".to_owned(),
            };
            fields.hide_personal(&mut violation);
            let hidden = violation.message == HIDDEN;
            assert_eq!(
                (violation.expected.is_empty(), violation.found.is_empty()),
                (hidden, hidden)
            );
            hidden
        };
        for (path, keyword) in [
            ("/person/email", "format"),
            ("/person/email/0", "type"),
            ("/person", "anyOf"),
            ("", "not"),
            ("/list/3/name", "type"),
            ("/list/3", "oneOf"),
        ] {
            assert!(hidden(path, keyword), "{path}");
        }
        for (path, keyword) in [
            ("/person", "required"),
            ("", "additionalProperties"),
            ("/person/emails", "type"),
            ("/list/3/names", "type"),
            ("/other", "type"),
        ] {
            assert!(!hidden(path, keyword), "{path}");
        }
    }
}
