//! Kinds of faults, and which faults are the same.

use xxhash_rust::xxh3::Xxh3;

use crate::{model::Violation, store::EventFault};

/// What kind of fault an event has. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// It is not JSON in UTF-8, or has a key twice.
    Decode = 1,
    /// It is too large.
    Size = 2,
    /// It is too deep.
    Depth = 3,
    /// It lacks what every event has: id, time; or that is malformed.
    Envelope = 4,
    /// It breaks its schema.
    SchemaViolation = 5,
    /// The primary identity is missing.
    IdentityMissing = 6,
    /// An identity is malformed.
    IdentityInvalid = 7,
    /// Its id belongs to another event.
    IdConflict = 8,
    /// Its time is not one that the dataset takes.
    TimeOutOfRange = 9,
}

impl FaultClass {
    pub(super) const ALL: [Self; 9] = [
        Self::Decode,
        Self::Size,
        Self::Depth,
        Self::Envelope,
        Self::SchemaViolation,
        Self::IdentityMissing,
        Self::IdentityInvalid,
        Self::IdConflict,
        Self::TimeOutOfRange,
    ];

    pub(super) const fn number(self) -> u32 {
        self as u32
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }

    fn of(fault: &EventFault) -> Self {
        match fault {
            EventFault::Conflict { .. } => Self::IdConflict,
            EventFault::OutOfTime(_) => Self::TimeOutOfRange,
            EventFault::Violates(_) => Self::SchemaViolation,
            EventFault::Malformed(violations) => {
                violations.first().map_or(Self::Decode, Self::of_malformed)
            }
        }
    }

    fn of_malformed(violation: &Violation) -> Self {
        let (path, keyword) = (violation.instance_path.as_str(), violation.keyword.as_str());
        match keyword {
            "size" => Self::Size,
            "depth" => Self::Depth,
            "json" | "encoding" | "duplicateKey" => Self::Decode,
            "required" if violation.message.contains("primary identity") => Self::IdentityMissing,
            _ if path.starts_with("/identityMap") => Self::IdentityInvalid,
            _ => Self::Envelope,
        }
    }
}

/// What makes faults the same: class and first violation, without places in arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) class: FaultClass,
    pub(super) path: String,
    pub(super) keyword: String,
    pub(super) schema_path: String,
    pub(super) message: String,
    pub(super) expected: String,
    pub(super) found: String,
}

impl Fault {
    pub(super) fn of(fault: &EventFault) -> Self {
        let class = FaultClass::of(fault);
        let conflict = || Violation::of_event("/_id", "conflict", fault.summary());
        let first = fault.violations().first().cloned().unwrap_or_else(conflict);
        Self {
            class,
            path: without_places(&first.instance_path),
            keyword: first.keyword,
            schema_path: first.schema_path,
            message: first.message,
            expected: first.expected,
            found: first.found,
        }
    }

    /// The same for faults that are the same, under one schema.
    pub(super) fn fingerprint(&self, schema_id: &str) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.class.number().to_be_bytes());
        for part in [schema_id, &self.path, &self.keyword] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.digest()
    }
}

/// A JSON pointer with `*` for each place in an array.
fn without_places(path: &str) -> String {
    let is_place = |token: &str| !token.is_empty() && token.bytes().all(|it| it.is_ascii_digit());
    let tokens = path.split('/').map(|token| if is_place(token) { "*" } else { token });
    tokens.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(path: &str, keyword: &str, message: &str) -> Violation {
        let schema_path = format!("#/{keyword}");
        let (instance_path, keyword) = (path.to_owned(), keyword.to_owned());
        let message = message.to_owned();
        Violation { instance_path, schema_path, keyword, message, ..Violation::default() }
    }

    #[test]
    fn faults_are_the_same_wherever_in_an_array() {
        let fault = |path, keyword| {
            Fault::of(&EventFault::Violates(vec![violation(path, keyword, "no")])).fingerprint("s")
        };
        assert_eq!(
            fault("/productListItems/0/SKU", "type"),
            fault("/productListItems/17/SKU", "type")
        );
        assert_ne!(
            fault("/productListItems/0/SKU", "type"),
            fault("/productListItems/0/SKU", "enum")
        );
        assert_ne!(fault("/a", "type"), fault("/b", "type"));
        let one = Fault::of(&EventFault::Violates(vec![violation("/a", "type", "no")]));
        assert_ne!(one.fingerprint("s"), one.fingerprint("t"));
    }

    #[test]
    fn every_kind_of_fault_has_its_class() {
        let malformed = |path, keyword, message| {
            FaultClass::of(&EventFault::Malformed(vec![violation(path, keyword, message)]))
        };
        assert_eq!(malformed("", "json", "no"), FaultClass::Decode);
        assert_eq!(malformed("/a", "duplicateKey", "twice"), FaultClass::Decode);
        assert_eq!(malformed("", "encoding", "no"), FaultClass::Decode);
        assert_eq!(malformed("", "size", "large"), FaultClass::Size);
        assert_eq!(malformed("/a/b", "depth", "deep"), FaultClass::Depth);
        assert_eq!(malformed("", "required", "`_id` is missing"), FaultClass::Envelope);
        assert_eq!(malformed("/timestamp", "format", "no"), FaultClass::Envelope);
        assert_eq!(malformed("/identityMap/Email/0/id", "type", "no"), FaultClass::IdentityInvalid);
        let missing = malformed("/person/id", "required", "the primary identity is missing");
        assert_eq!(missing, FaultClass::IdentityMissing);
        for class in FaultClass::ALL {
            assert_eq!(FaultClass::from_number(class.number()), Some(class));
        }
    }
}
