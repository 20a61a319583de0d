//! Names that people give, parsed once.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::model::limits;

/// A value that is not what its field wants: for people, with found and wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Path of the field in the request, for example `dataset.name`.
    pub field: String,
    /// Found and wanted.
    pub message: String,
}

impl Invalid {
    /// A problem of one field.
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Name of a dataset: 1 to 64 of `a-z`, `0-9`, `-`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetName(Arc<str>);

impl DatasetName {
    /// Parses a name; `field` is where it stood in the request.
    ///
    /// # Errors
    /// When the text is not a name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        name(field, text).map(Self)
    }
}

/// Name of a subscription: as that of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionName(Arc<str>);

impl SubscriptionName {
    /// Parses a name; `field` is where it stood in the request.
    ///
    /// # Errors
    /// When the text is not a name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        name(field, text).map(Self)
    }
}

/// Name of an event definition: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DefinitionName(Arc<str>);

impl DefinitionName {
    /// Parses a name; `field` is where it stood in the request.
    ///
    /// # Errors
    /// When the text is not a name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let fits = (1..=limits::NAME_BYTES_MAX).contains(&text.len());
        if !(fits && text.bytes().all(allowed)) {
            return Err(Invalid::new(
                field,
                format!(
                    "`{}` is not a name; wanted 1 to {} of A-Z, a-z, 0-9 and _",
                    shorten(text),
                    limits::NAME_BYTES_MAX
                ),
            ));
        }
        Ok(Self(text.into()))
    }
}

/// What a name that is a text can do, apart from being parsed.
macro_rules! is_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

is_text!(DatasetName, DefinitionName, SubscriptionName);

/// An organisation's short name: 1 to 64 letters, digits, `_` and `-`, the first a letter or digit. Its own
/// fields stand under it, with `_` before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(Arc<str>);

/// Names of which `_name` means something else in XDM's wire form.
const TENANTS_RESERVED: [&str; 8] =
    ["dc", "experience", "id", "repo", "schema", "type", "xdm", "xmpDM"];

impl Tenant {
    /// Parses a name. The error tells what is wanted.
    ///
    /// # Errors
    /// When the text is not a name, or one that XDM uses itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let fits = text.len() <= limits::NAME_BYTES_MAX;
        if !(starts_well && fits && text.bytes().all(allowed)) {
            return Err(format!(
                "1 to {} letters, digits, `_` and `-`, the first a letter or digit",
                limits::NAME_BYTES_MAX
            ));
        }
        if TENANTS_RESERVED.contains(&text) {
            return Err(format!("a name that XDM does not use; `_{text}` is one of its own"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn name(field: &str, text: &str) -> Result<Arc<str>, Invalid> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
    let fits = text.len() <= limits::NAME_BYTES_MAX;
    if !(starts_well && fits && text.bytes().all(allowed)) {
        return Err(Invalid::new(
            field,
            format!(
                "`{}` is not a name; wanted 1 to {} of a-z, 0-9 and -, starting with a letter",
                shorten(text),
                limits::NAME_BYTES_MAX
            ),
        ));
    }
    Ok(text.into())
}

/// Checks the code of an identity namespace: 1 to 64 letters, digits, `_` and `-`.
///
/// # Errors
/// When the text is not a code.
pub fn check_namespace_code(field: &str, text: &str) -> Result<(), Invalid> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let fits = (1..=limits::NAMESPACE_CODE_BYTES_MAX).contains(&text.len());
    if fits && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!(
            "`{}` is not a namespace code; wanted 1 to {} letters, digits, _ and -",
            shorten(text),
            limits::NAMESPACE_CODE_BYTES_MAX
        ),
    ))
}

/// Cuts a value from a request so that a message stays readable.
#[must_use]
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Bytes in lowercase hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::{DatasetName, Tenant};

    #[test]
    fn a_tenant_is_a_name_that_xdm_does_not_use() {
        for good in ["acme", "Acme-2_x", "9", &"a".repeat(64)] {
            assert_eq!(Tenant::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "_acme", "a b", "a/b", "ä", "experience", "id", &"a".repeat(65)] {
            assert!(Tenant::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_dataset_name_is_short_lowercase_and_starts_with_a_letter() {
        for good in ["a", "store-events", "x9", &"a".repeat(64)] {
            assert!(DatasetName::parse("name", good).is_ok(), "{good}");
        }
        for bad in ["", "9a", "-a", "Store", "a_b", "a b", "ä", &"a".repeat(65)] {
            assert!(DatasetName::parse("name", bad).is_err(), "{bad}");
        }
    }
}
