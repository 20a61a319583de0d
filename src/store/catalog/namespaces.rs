//! Identity namespaces: the standard set, and those that people create.

use std::sync::Arc;

use crate::{
    model::{Timestamp, check_namespace_code, limits},
    storage::{CatalogBatch, pb::NamespaceRecord},
    store::{
        Error, Resource,
        catalog::{Catalog, Change, check_etag, check_text, etag, micros},
    },
};

/// An identity namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Unique without regard to case.
    pub code: Arc<str>,
    /// What its owner chose.
    pub settings: NamespaceSettings,
    /// One of the standard set.
    pub built_in: bool,
    /// When it was created; the epoch when built in.
    pub create_time: Timestamp,
    /// When it last changed; the epoch when built in.
    pub update_time: Timestamp,
    revision: u64,
}

/// What a namespace's owner chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// What an identity of it identifies; never changes.
    pub kind: NamespaceType,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
}

/// What an update changes; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct NamespaceChanges {
    /// For people.
    pub display_name: Option<String>,
    /// For people.
    pub description: Option<String>,
}

/// What an identity of a namespace identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceType {
    /// A browser.
    Cookie,
    /// A person across devices.
    CrossDevice,
    /// A device.
    Device,
    /// A person by e-mail.
    Email,
    /// A person by telephone.
    Phone,
    /// Not a person.
    NonPeople,
    /// A person, as a partner knows it.
    Partner,
}

impl NamespaceType {
    /// The number on disk.
    const fn number(self) -> u32 {
        match self {
            Self::Cookie => 1,
            Self::CrossDevice => 2,
            Self::Device => 3,
            Self::Email => 4,
            Self::Phone => 5,
            Self::NonPeople => 6,
            Self::Partner => 7,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Cookie,
            2 => Self::CrossDevice,
            3 => Self::Device,
            4 => Self::Email,
            5 => Self::Phone,
            6 => Self::NonPeople,
            7 => Self::Partner,
            _ => return None,
        })
    }
}

/// The standard namespaces: code, type, display name. Codes and types are those of the public
/// identity documentation of the Experience Platform.
const STANDARD: &[(&str, NamespaceType, &str)] = &[
    ("AdCloud", NamespaceType::Cookie, "Advertising Cloud"),
    ("APNS", NamespaceType::Device, "Apple push notification token"),
    ("AVID", NamespaceType::Cookie, "Analytics visitor, legacy"),
    ("CORE", NamespaceType::Cookie, "Audience Manager cookie, legacy"),
    ("ECID", NamespaceType::Cookie, "Experience Cloud id"),
    ("Email", NamespaceType::Email, "E-mail address"),
    ("Email_LC_SHA256", NamespaceType::Email, "E-mail address, lower case, SHA-256"),
    ("FCM", NamespaceType::Device, "Firebase push notification token"),
    ("FPID", NamespaceType::Cookie, "First-party device id"),
    ("GAID", NamespaceType::Device, "Google advertising id"),
    ("IDFA", NamespaceType::Device, "Apple advertising id"),
    ("Phone", NamespaceType::Phone, "Telephone number"),
    ("Phone_E.164", NamespaceType::Phone, "Telephone number, E.164"),
    ("Phone_SHA256", NamespaceType::Phone, "Telephone number, SHA-256"),
    ("Phone_SHA256_E.164", NamespaceType::Phone, "Telephone number, E.164, SHA-256"),
    ("TNTID", NamespaceType::Cookie, "Target visitor"),
    ("WAID", NamespaceType::Device, "Windows advertising id"),
];

impl Namespace {
    /// Changes with every change of the settings.
    #[must_use]
    pub fn etag(&self) -> String {
        etag(self.revision)
    }

    pub(super) fn standard() -> impl Iterator<Item = Self> {
        STANDARD.iter().map(|(code, kind, name)| Self {
            code: (*code).into(),
            settings: NamespaceSettings {
                kind: *kind,
                display_name: (*name).to_owned(),
                description: String::new(),
            },
            built_in: true,
            create_time: Timestamp::EPOCH,
            update_time: Timestamp::EPOCH,
            revision: 1,
        })
    }

    pub(super) fn load(record: NamespaceRecord) -> Result<Self, Error> {
        let Some(kind) = NamespaceType::from_number(record.r#type) else {
            tracing::error!(code = record.code, "stored namespace is damaged");
            return Err(Error::Corrupt);
        };
        Ok(Self {
            code: record.code.into(),
            settings: NamespaceSettings {
                kind,
                display_name: record.display_name,
                description: record.description,
            },
            built_in: false,
            create_time: micros(record.create_time_us),
            update_time: micros(record.update_time_us),
            revision: record.revision,
        })
    }

    fn record(&self) -> NamespaceRecord {
        NamespaceRecord {
            code: self.code.to_string(),
            r#type: self.settings.kind.number(),
            display_name: self.settings.display_name.clone(),
            description: self.settings.description.clone(),
            revision: self.revision,
            create_time_us: self.create_time.micros(),
            update_time_us: self.update_time.micros(),
        }
    }
}

const DISPLAY_NAME_BYTES_MAX: usize = 256;
const DESCRIPTION_BYTES_MAX: usize = 1024;

impl NamespaceSettings {
    fn check(&self) -> Result<(), Error> {
        check_text("namespace.display_name", &self.display_name, DISPLAY_NAME_BYTES_MAX)?;
        check_text("namespace.description", &self.description, DESCRIPTION_BYTES_MAX)
    }
}

impl Catalog {
    /// Creates a namespace, or returns the one with the same settings.
    pub(crate) fn create_namespace(
        &self,
        code: &str,
        settings: NamespaceSettings,
        now: Timestamp,
    ) -> Result<Change<Arc<Namespace>>, Error> {
        check_namespace_code("namespace.code", code)?;
        settings.check()?;
        let same_code = |it: &&Arc<Namespace>| it.code.eq_ignore_ascii_case(code);
        if let Some(existing) = self.namespaces.values().find(same_code) {
            if *existing.code == *code && existing.settings == settings {
                return Ok(Change::Nothing(Arc::clone(existing)));
            }
            let difference = if *existing.code == *code {
                "other settings".to_owned()
            } else {
                format!("the code `{}`", existing.code)
            };
            let name = code.to_owned();
            return Err(Error::Exists { kind: Resource::Namespace, name, difference });
        }
        let custom = self.namespaces.values().filter(|it| !it.built_in).count();
        if custom >= limits::NAMESPACES_MAX {
            return Err(Error::Limit { what: "namespaces", max: limits::NAMESPACES_MAX });
        }
        let code = code.into();
        let (create_time, update_time) = (now, now);
        Ok(self.with_namespace(Namespace {
            code,
            settings,
            built_in: false,
            create_time,
            update_time,
            revision: 1,
        }))
    }

    /// Changes a custom namespace.
    pub(crate) fn update_namespace(
        &self,
        code: &str,
        etag: Option<&str>,
        changes: NamespaceChanges,
        now: Timestamp,
    ) -> Result<Change<Arc<Namespace>>, Error> {
        let existing = self.namespace(code)?;
        if existing.built_in {
            return Err(Error::BuiltIn(code.to_owned()));
        }
        check_etag(Resource::Namespace, code, existing.revision, etag)?;
        let mut namespace = Namespace::clone(existing);
        let settings = &mut namespace.settings;
        if let Some(name) = changes.display_name {
            settings.display_name = name;
        }
        if let Some(description) = changes.description {
            settings.description = description;
        }
        settings.check()?;
        if namespace.settings == existing.settings {
            return Ok(Change::Nothing(Arc::clone(existing)));
        }
        namespace.update_time = now;
        namespace.revision += 1;
        Ok(self.with_namespace(namespace))
    }

    fn with_namespace(&self, namespace: Namespace) -> Change<Arc<Namespace>> {
        let namespace = Arc::new(namespace);
        let mut rows = CatalogBatch::default();
        rows.put_namespace(&namespace.record());
        let mut next = self.clone();
        next.insert_namespace(Arc::clone(&namespace));
        Change::Write { rows, next: Box::new(next), answer: namespace }
    }
}
