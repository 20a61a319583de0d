//! One change, and what it means.

use crate::{model::limits, schema::violation::shorten};

/// What a change means for a schema that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Allowed.
    Compatible,
    /// Allowed, but what is stored lacks what is asked of new events.
    Warning,
    /// Refused.
    Breaking,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $verdict:ident,)*) => {
        /// How something changed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ChangeKind {
            $($(#[$doc])* $kind,)*
        }

        impl ChangeKind {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name in the API and in the catalog.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            fn verdict(self) -> Verdict {
                match self { $(Self::$kind => Verdict::$verdict,)* }
            }
        }
    };
}

kinds! {
    /// A field that was not there.
    FieldAdded "FIELD_ADDED" Compatible,
    /// A field is gone.
    FieldRemoved "FIELD_REMOVED" Breaking,
    /// A field is gone, and one like it has another name.
    FieldRenamed "FIELD_RENAMED" Breaking,
    /// A new field differs from an old one in letter case only.
    CaseVariant "CASE_VARIANT" Breaking,
    /// Another type, also a wider one: a field is not redefined.
    TypeChanged "TYPE_CHANGED" Breaking,
    /// A format was added or changed, or one that makes a date was dropped.
    FormatChanged "FORMAT_CHANGED" Breaking,
    /// A format that only restricts text was dropped.
    FormatDropped "FORMAT_DROPPED" Compatible,
    /// A pattern was added or changed.
    PatternChanged "PATTERN_CHANGED" Breaking,
    /// A pattern was dropped.
    PatternDropped "PATTERN_DROPPED" Compatible,
    /// A bound accepts less.
    BoundNarrowed "BOUND_NARROWED" Breaking,
    /// A bound accepts more.
    BoundWidened "BOUND_WIDENED" Compatible,
    /// A field that took any value takes listed ones only.
    EnumAdded "ENUM_ADDED" Breaking,
    /// Listed values are gone.
    EnumNarrowed "ENUM_NARROWED" Breaking,
    /// More values are listed.
    EnumWidened "ENUM_WIDENED" Compatible,
    /// Values are not restricted any more.
    EnumDropped "ENUM_DROPPED" Compatible,
    /// A value is suggested.
    SuggestionAdded "SUGGESTION_ADDED" Compatible,
    /// A value is not suggested any more.
    SuggestionRemoved "SUGGESTION_REMOVED" Compatible,
    /// A field that was there is required now.
    RequiredAdded "REQUIRED_ADDED" Breaking,
    /// A new field is required.
    RequiredFieldAdded "REQUIRED_FIELD_ADDED" Warning,
    /// A field is optional now.
    RequiredDropped "REQUIRED_DROPPED" Compatible,
    /// Keys that are not defined are refused now.
    Closed "KEYS_CLOSED" Breaking,
    /// Keys that are not defined are taken now.
    Opened "KEYS_OPENED" Compatible,
    /// Elements of an array are defined that were not, or the other way round.
    ElementsChanged "ELEMENTS_CHANGED" Breaking,
    /// A condition such as `oneOf` or `not` was added or changed.
    ConditionChanged "CONDITION_CHANGED" Breaking,
    /// A condition is gone or has one alternative more.
    ConditionDropped "CONDITION_DROPPED" Compatible,
    /// The field marks itself as deprecated.
    FieldDeprecated "FIELD_DEPRECATED" Compatible,
    /// Another field is the primary identity, or none is.
    PrimaryIdentityChanged "PRIMARY_IDENTITY_CHANGED" Breaking,
    /// A schema in use does not compile with the new version.
    ReferenceBroken "REFERENCE_BROKEN" Breaking,
    /// There is too much to compare.
    TooComplex "TOO_COMPLEX" Breaking,
}

impl ChangeKind {
    /// Whether it changes what is accepted; suggestions do not.
    pub(super) fn matters(self) -> bool {
        !matches!(self, Self::SuggestionAdded | Self::SuggestionRemoved | Self::FieldDeprecated)
    }
}

/// One thing that differs between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// JSON Pointer into an event, with `*` for any element or any other key; empty for the whole.
    pub path: String,
    /// How it changed.
    pub kind: ChangeKind,
    /// What was there, for people.
    pub old: String,
    /// What is there now, for people.
    pub new: String,
    /// What it means.
    pub verdict: Verdict,
}

impl Change {
    /// A change with the verdict of its kind.
    #[must_use]
    pub fn new(path: &str, kind: ChangeKind, old: &str, new: &str) -> Self {
        let (old, new) = (shorten(old), shorten(new));
        Self { path: path.to_owned(), kind, old, new, verdict: kind.verdict() }
    }

    /// In one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let path = if self.path.is_empty() { "the whole" } else { &self.path };
        let what = self.kind.name().to_lowercase().replace('_', " ");
        match (self.old.as_str(), self.new.as_str()) {
            ("", "") => format!("`{path}`: {what}"),
            ("", new) => format!("`{path}`: {what}: {new}"),
            (old, "") => format!("`{path}`: {what}: {old}"),
            (old, new) => format!("`{path}`: {what}, `{old}` to `{new}`"),
        }
    }
}

/// What differs between two versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The breaking ones first, in order of depth.
    pub listed: Vec<Change>,
    /// How many more there are.
    pub left_out: u64,
    breaking: usize,
}

impl Changes {
    pub(crate) fn add(&mut self, change: Change) {
        if change.verdict == Verdict::Breaking {
            self.listed.insert(self.breaking, change);
            self.breaking += 1;
        } else {
            self.listed.push(change);
        }
        if self.listed.len() > limits::SCHEMA_CHANGES_MAX {
            self.listed.pop();
            self.breaking = self.breaking.min(self.listed.len());
            self.left_out += 1;
        }
    }

    /// The worst of all verdicts.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.listed.iter().map(|it| it.verdict).max().unwrap_or(Verdict::Compatible)
    }

    /// The breaking ones that are listed.
    pub fn breaking(&self) -> impl Iterator<Item = &Change> {
        self.listed.iter().filter(|it| it.verdict == Verdict::Breaking)
    }
}
