//! Why a schema document is not taken.

use std::fmt;

use crate::schema::SchemaDocument;

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON Pointer into the document.
    pub pointer: String,
    /// Found and wanted, for people.
    pub message: String,
}

/// Why a schema document is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaProblem {
    /// Not a schema; everything found wrong, at least one thing.
    #[error("{}", Faults(.0))]
    Invalid(Vec<Fault>),
    /// Not put together as XDM wants it; everything found wrong, at least one thing.
    #[error("{}", Faults(.0))]
    Composition(Vec<Fault>),
    /// Fields of an organisation's own that do not stand under its name; all of them, at least one.
    #[error("{}", Faults(.0))]
    Tenant(Vec<Fault>),
    /// Not what descriptors say about the document; all of them, at least one.
    #[error("{}", Faults(.0))]
    Descriptors(Vec<Fault>),
    /// A reference leads nowhere.
    #[error("`{document}` refers to `{reference}`, {message}")]
    Unresolved {
        /// `$id` of the document that holds the reference.
        document: String,
        /// JSON Pointer of the referring keyword in that document.
        pointer: String,
        /// The absolute URI referred to.
        reference: String,
        /// What is missing.
        message: String,
    },
    /// Schemas that apply each other to the same value without end.
    #[error("{message}")]
    Cycle {
        /// JSON Pointer of one schema of the loop, in the document; empty when the loop lies
        /// elsewhere.
        pointer: String,
        /// Names the loop.
        message: String,
    },
    /// Beyond a limit of this server.
    #[error("{message}")]
    TooLarge {
        /// JSON Pointer of what is too large, in the document; empty for the whole.
        pointer: String,
        /// Found and allowed.
        message: String,
    },
}

impl SchemaProblem {
    /// The same problem, told about another spelling of the document.
    pub(super) fn map_pointers(mut self, map: impl Fn(&str) -> String) -> Self {
        match &mut self {
            Self::Invalid(faults)
            | Self::Composition(faults)
            | Self::Tenant(faults)
            | Self::Descriptors(faults) => {
                for fault in faults {
                    fault.pointer = map(&fault.pointer);
                }
            }
            Self::Unresolved { pointer, .. }
            | Self::Cycle { pointer, .. }
            | Self::TooLarge { pointer, .. } => *pointer = map(pointer),
        }
        self
    }

    /// The same problem, with places in `root` as they are in the document given.
    pub(super) fn told_of(self, root: &SchemaDocument) -> Self {
        let elsewhere = matches!(&self, Self::Unresolved { document, .. } if document != root.id());
        if elsewhere { self } else { self.map_pointers(|it| root.given_pointer(it)) }
    }

    pub(crate) fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault { pointer: pointer.into(), message: message.into() }])
    }
}

/// Shows the first fault and counts the rest.
struct Faults<'a>(&'a [Fault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str("the schema is invalid");
        };
        match first.pointer.as_str() {
            "" => f.write_str(&first.message)?,
            pointer => write!(f, "at `{pointer}`: {}", first.message)?,
        }
        match rest.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
