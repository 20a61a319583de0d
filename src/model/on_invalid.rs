//! What an event meets that breaks the rules.

/// What becomes of an invalid event; the stricter the smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnInvalid {
    /// It is refused.
    #[default]
    Reject,
    /// It is set aside, if its append asks for each event by itself.
    Quarantine,
    /// It is stored with what is wrong with it, as far as it can be read.
    Tag,
}
