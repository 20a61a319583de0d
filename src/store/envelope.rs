//! What every event must have, whatever its schema: an id, a time, sound identities.

use bytes::Bytes;

use crate::{
    model::{Timestamp, Violation, json::Node, limits, shorten},
    schema::{EventFields, IdentityField},
    storage::pb::IdentityRecord,
    store::definitions::Matches,
};

/// What Milepost reads from a payload.
#[derive(Debug, Default)]
pub(crate) struct Envelope {
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    pub(crate) event_time: Timestamp,
    /// Sorted by namespace and id, each once.
    pub(crate) identities: Vec<IdentityRecord>,
    /// Event definitions that it matches; not read, but asked for once the event is judged.
    pub(crate) matches: Matches,
    /// Id and time could be read: it can be stored, whatever else is wrong with it.
    pub(crate) is_readable: bool,
}

impl Envelope {
    /// Reads the envelope of an event; every broken rule goes to `violations`.
    pub(crate) fn read(
        event: Node<'_>,
        fields: &EventFields,
        violations: &mut Vec<Violation>,
    ) -> Self {
        let mut reader = Reader { event, violations, identities: Vec::new() };
        let before = reader.violations.len();
        let event_id = reader.event_id();
        let event_time = reader.event_time(fields.time.as_deref());
        let is_readable = reader.violations.len() == before;
        let event_type = reader.event_type();
        if let Some(path) = &fields.version
            && event.pointer(path).is_none()
        {
            reader.broken(path, "required", "the version is missing");
        }
        reader.identity_map();
        reader.identity_fields(&fields.identities);
        let identities = reader.finish_identities();
        let matches = Matches::default();
        Self { event_id, event_type, event_time, identities, matches, is_readable }
    }
}

struct Reader<'a, 'v> {
    event: Node<'a>,
    violations: &'v mut Vec<Violation>,
    identities: Vec<IdentityRecord>,
}

impl<'a> Reader<'a, '_> {
    fn event_id(&mut self) -> String {
        let Some(id) = self.required_string("_id") else { return String::new() };
        if id.is_empty() {
            self.broken("/_id", "minLength", "`_id` is empty; wanted at least 1 byte");
        } else if id.len() > limits::EVENT_ID_BYTES_MAX {
            let (found, most) = (id.len(), limits::EVENT_ID_BYTES_MAX);
            self.broken("/_id", "maxLength", format!("`_id` has {found} bytes; at most {most}"));
        }
        id.to_owned()
    }

    /// `field` is where a descriptor says that the time is, if not at its usual place.
    fn event_time(&mut self, field: Option<&str>) -> Timestamp {
        let text = match field {
            None => self.required_string("timestamp"),
            Some(path) => self.time_at(path),
        };
        let Some(text) = text else { return Timestamp::EPOCH };
        let path = field.unwrap_or("/timestamp");
        let name = path.trim_start_matches('/');
        match Timestamp::parse_rfc3339(text) {
            Ok(time) if time < Timestamp::EPOCH => {
                let message = format!("`{name}` is {time}; not before 1970");
                let told = ("not before 1970", time.to_string());
                self.broken_by(path, "minimum", message, told);
                time
            }
            Ok(time) => time,
            Err(wanted) => {
                let message = format!("`{name}` is `{}`; wanted {wanted}", shorten(text));
                self.broken_by(path, "format", message, (wanted, quote(text)));
                Timestamp::EPOCH
            }
        }
    }

    fn time_at(&mut self, path: &str) -> Option<&'a str> {
        let Some(value) = self.event.pointer(path) else {
            self.broken(path, "required", "the event's time is missing");
            return None;
        };
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(path, "the event's time", value, "a string");
        }
        text
    }

    fn event_type(&mut self) -> String {
        let Some(value) = self.event.get("eventType") else { return String::new() };
        let Some(text) = value.as_str() else {
            self.wrong_type("/eventType", "eventType", value, "a string");
            return String::new();
        };
        if text.len() > limits::EVENT_TYPE_BYTES_MAX {
            let (found, most) = (text.len(), limits::EVENT_TYPE_BYTES_MAX);
            let message = format!("`eventType` has {found} bytes; at most {most}");
            self.broken("/eventType", "maxLength", message);
            return String::new();
        }
        text.to_owned()
    }

    fn identity_map(&mut self) {
        let Some(map) = self.event.get("identityMap") else { return };
        if !map.is_object() {
            return self.wrong_type("/identityMap", "identityMap", map, "an object");
        }
        for (namespace, items) in map.members() {
            let path = || format!("/identityMap/{}", escape(namespace));
            if !is_namespace(namespace) {
                let most = limits::NAMESPACE_CODE_BYTES_MAX;
                let message = format!(
                    "`{}` is not a namespace; 1 to {most} printable bytes",
                    shorten(namespace)
                );
                self.broken(&path(), "propertyNames", message);
            } else if !items.is_array() {
                self.wrong_type(&path(), namespace, items, "an array");
            } else {
                for (index, item) in items.elements().enumerate() {
                    self.identity_item(namespace, || format!("{}/{index}", path()), item);
                }
            }
        }
    }

    /// Paths are made when a rule is broken: hardly ever, and each costs more than the rules.
    fn identity_item(&mut self, namespace: &str, path: impl Fn() -> String, item: Node<'a>) {
        if !item.is_object() {
            return self.wrong_type(&path(), "identity", item, "an object");
        }
        let Some(id) = item.get("id") else {
            return self.broken(&path(), "required", "`id` is missing");
        };
        // Official samples send the flag as a string too.
        let primary = item
            .get("primary")
            .is_some_and(|it| it.as_bool() == Some(true) || it.as_str() == Some("true"));
        self.identity(namespace, || format!("{}/id", path()), id, primary);
    }

    fn identity_fields(&mut self, fields: &[IdentityField]) {
        for field in fields {
            match self.event.pointer(&field.path) {
                Some(value) => {
                    if field.primary {
                        // The schema's choice of the primary identity overrides the sender's.
                        self.identities.iter_mut().for_each(|it| it.primary = false);
                    }
                    let path = || field.path.clone();
                    self.identity(&field.namespace, path, value, field.primary);
                }
                None if field.primary => {
                    self.broken(&field.path, "required", "the primary identity is missing");
                }
                None => {}
            }
        }
    }

    fn identity(
        &mut self,
        namespace: &str,
        path: impl Fn() -> String,
        value: Node<'a>,
        primary: bool,
    ) {
        let most = limits::IDENTITY_ID_BYTES_MAX;
        match value.as_str() {
            None => self.wrong_type(&path(), "id", value, "a string"),
            Some(id) if id.is_empty() || id.len() > most => {
                let message = format!("`id` has {} bytes; wanted 1 to {most}", id.len());
                let wanted = format!("1 to {most} bytes");
                let told = (wanted.as_str(), format!("{} bytes", id.len()));
                self.broken_by(&path(), "maxLength", message, told);
            }
            Some(id) if is_blocked(id) => {
                let message = format!("`{}` names nobody; leave the identity out", shorten(id));
                self.broken_by(&path(), "blocked", message, ("an id of somebody", quote(id)));
            }
            Some(id) if namespace == ECID && !is_ecid(id) => {
                let message = format!("`{}` is no ECID; wanted {ECID_DIGITS} digits", shorten(id));
                let wanted = format!("{ECID_DIGITS} digits");
                self.broken_by(&path(), "pattern", message, (&wanted, quote(id)));
            }
            Some(id) => self.identities.push(IdentityRecord {
                namespace: Bytes::copy_from_slice(namespace.as_bytes()),
                id: Bytes::copy_from_slice(id.as_bytes()),
                primary,
            }),
        }
    }

    fn finish_identities(&mut self) -> Vec<IdentityRecord> {
        let mut identities = std::mem::take(&mut self.identities);
        identities.sort_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
        identities.dedup_by(|later, kept| {
            let same = later.namespace == kept.namespace && later.id == kept.id;
            kept.primary |= same && later.primary;
            same
        });
        if identities.iter().filter(|it| it.primary).count() > 1 {
            self.broken("/identityMap", "primary", "more than one primary identity; at most 1");
            // A tagged event has none then: there is no telling which.
            for identity in &mut identities {
                identity.primary = false;
            }
        }
        let (found, most) = (identities.len(), limits::EVENT_IDENTITIES_MAX);
        if found > most {
            let message = format!("{found} identities; at most {most}");
            self.broken("/identityMap", "maxProperties", message);
            identities.truncate(most);
        }
        identities
    }

    fn required_string(&mut self, name: &str) -> Option<&'a str> {
        let Some(value) = self.event.get(name) else {
            self.broken("", "required", format!("`{name}` is missing"));
            return None;
        };
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(&format!("/{name}"), name, value, "a string");
        }
        text
    }

    fn broken(&mut self, path: &str, keyword: &str, message: impl Into<String>) {
        self.broken_by(path, keyword, message, ("", String::new()));
    }

    /// The same, and what is wanted and found in short.
    fn broken_by(
        &mut self,
        path: &str,
        keyword: &str,
        message: impl Into<String>,
        (expected, found): (&str, String),
    ) {
        if self.violations.len() < limits::VIOLATIONS_MAX {
            let violation = Violation::of_event(path, keyword, message);
            self.violations.push(violation.telling(expected, found));
        }
    }

    /// A value is not of the type that it must have.
    fn wrong_type(&mut self, path: &str, name: &str, value: Node<'_>, wanted: &str) {
        let found = format!("{:?}", value.kind()).to_lowercase();
        let message = format!("`{name}` is of type {found}; wanted {wanted}");
        self.broken_by(path, "type", message, (wanted, found));
    }
}

/// A string as it is told of in short.
fn quote(text: &str) -> String {
    format!("\"{}\"", shorten(text))
}

/// The one namespace of which all ids look alike.
const ECID: &str = "ECID";
const ECID_DIGITS: usize = 38;

fn is_ecid(id: &str) -> bool {
    id.len() == ECID_DIGITS && id.bytes().all(|it| it.is_ascii_digit())
}

/// What programs send when they have no id: it would make one person of all their users.
fn is_blocked(id: &str) -> bool {
    let blocked = ["null", "anonymous", "invalid"];
    id.trim().is_empty() || blocked.iter().any(|it| id.eq_ignore_ascii_case(it))
}

/// Namespaces of events need not be registered; they only have to fit an index term.
fn is_namespace(code: &str) -> bool {
    (1..=limits::NAMESPACE_CODE_BYTES_MAX).contains(&code.len()) && !code.contains(char::is_control)
}

fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}
