//! The functions of the language: one table of what they take and give.
#![expect(clippy::wildcard_enum_match_arm, reason = "all other types are refused alike")]

use crate::condition::types::Type;

/// A function that is no part of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Avg,
    Contains,
    Double,
    Duration,
    EndsWith,
    GetDate,
    GetDayOfMonth,
    GetDayOfWeek,
    GetDayOfYear,
    GetFullYear,
    GetHours,
    GetMilliseconds,
    GetMinutes,
    GetMonth,
    GetSeconds,
    IndexOf,
    Int,
    LastIndexOf,
    LowerAscii,
    Max,
    Min,
    Replace,
    Size,
    Split,
    StartsWith,
    String,
    Substring,
    Sum,
    Timestamp,
    Trim,
    UpperAscii,
}

/// What a parameter takes, or a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Bool,
    Text,
    Int,
    Double,
    Number,
    Numbers,
    Texts,
    Time,
    Duration,
    /// A moment or a duration.
    TimeOrDuration,
    /// A text, a list or a map.
    Sized,
    /// A text, a number, a boolean, a moment or a duration.
    Scalar,
    /// A text or a number.
    TextOrNumber,
    /// A text or a moment.
    TextOrTime,
    /// A text or a duration.
    TextOrDuration,
}

/// How a function is called.
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) function: Function,
    /// What stands before the dot; `None`: it is called by its name alone.
    pub(super) on: Option<Takes>,
    pub(super) takes: &'static [Takes],
    /// How many of `takes` may be left out.
    pub(super) optional: usize,
    pub(super) gives: Takes,
}

const fn member(
    name: &'static str,
    function: Function,
    on: Takes,
    takes: &'static [Takes],
    gives: Takes,
) -> Signature {
    Signature { name, function, on: Some(on), takes, optional: 0, gives }
}

const fn global(
    name: &'static str,
    function: Function,
    takes: &'static [Takes],
    gives: Takes,
) -> Signature {
    Signature { name, function, on: None, takes, optional: 0, gives }
}

/// With a time zone that may be left out.
const fn part(name: &'static str, function: Function, on: Takes) -> Signature {
    let (takes, gives) = (&[Takes::Text], Takes::Int);
    Signature { name, function, on: Some(on), takes, optional: 1, gives }
}

use Takes::{Int, Number, Numbers, Sized, Text, Time, TimeOrDuration};

/// All functions. `has`, `now`, `matches` and the loops are the checker's own.
pub(super) const FUNCTIONS: &[Signature] = &[
    global("size", Function::Size, &[Sized], Int),
    member("size", Function::Size, Sized, &[], Int),
    member("startsWith", Function::StartsWith, Text, &[Text], Takes::Bool),
    member("endsWith", Function::EndsWith, Text, &[Text], Takes::Bool),
    member("contains", Function::Contains, Text, &[Text], Takes::Bool),
    member("lowerAscii", Function::LowerAscii, Text, &[], Text),
    member("upperAscii", Function::UpperAscii, Text, &[], Text),
    member("trim", Function::Trim, Text, &[], Text),
    Signature {
        name: "substring",
        function: Function::Substring,
        on: Some(Text),
        takes: &[Int, Int],
        optional: 1,
        gives: Text,
    },
    member("indexOf", Function::IndexOf, Text, &[Text], Int),
    member("lastIndexOf", Function::LastIndexOf, Text, &[Text], Int),
    member("replace", Function::Replace, Text, &[Text, Text], Text),
    member("split", Function::Split, Text, &[Text], Takes::Texts),
    global("string", Function::String, &[Takes::Scalar], Text),
    global("int", Function::Int, &[Takes::TextOrNumber], Int),
    global("double", Function::Double, &[Takes::TextOrNumber], Takes::Double),
    global("timestamp", Function::Timestamp, &[Takes::TextOrTime], Time),
    global("duration", Function::Duration, &[Takes::TextOrDuration], Takes::Duration),
    member("sum", Function::Sum, Numbers, &[], Number),
    member("avg", Function::Avg, Numbers, &[], Takes::Double),
    member("min", Function::Min, Numbers, &[], Number),
    member("max", Function::Max, Numbers, &[], Number),
    part("getFullYear", Function::GetFullYear, Time),
    part("getMonth", Function::GetMonth, Time),
    part("getDate", Function::GetDate, Time),
    part("getDayOfMonth", Function::GetDayOfMonth, Time),
    part("getDayOfWeek", Function::GetDayOfWeek, Time),
    part("getDayOfYear", Function::GetDayOfYear, Time),
    part("getHours", Function::GetHours, TimeOrDuration),
    part("getMinutes", Function::GetMinutes, TimeOrDuration),
    part("getSeconds", Function::GetSeconds, TimeOrDuration),
    part("getMilliseconds", Function::GetMilliseconds, TimeOrDuration),
];

/// The checker's own names.
pub(super) const OWN: [&str; 8] =
    ["has", "now", "matches", "all", "exists", "exists_one", "filter", "map"];

impl Takes {
    /// Whether a value of this type may be given.
    pub(super) fn accepts(self, type_: &Type) -> bool {
        let is_list_of = |fits: fn(&Type) -> bool| match type_ {
            Type::List(of) => fits(of),
            other => matches!(other, Type::Any),
        };
        let scalar = matches!(type_, Type::Bool | Type::Time | Type::Duration);
        match self {
            Self::Bool => matches!(type_, Type::Bool | Type::Any),
            Self::Text => type_.is_text(),
            Self::Int => matches!(type_, Type::Int | Type::Any),
            Self::Double | Self::Number => type_.is_number(),
            Self::Numbers => is_list_of(Type::is_number),
            Self::Texts => is_list_of(Type::is_text),
            // In a condition without a schema a moment is a text.
            Self::Time => matches!(type_, Type::Time | Type::Any),
            Self::Duration => matches!(type_, Type::Duration | Type::Any),
            Self::TimeOrDuration => matches!(type_, Type::Time | Type::Duration | Type::Any),
            Self::Sized => type_.is_text() || matches!(type_, Type::List(_) | Type::Map(_)),
            Self::Scalar => type_.is_text() || type_.is_number() || scalar,
            Self::TextOrNumber => type_.is_text() || type_.is_number(),
            Self::TextOrTime => type_.is_text() || matches!(type_, Type::Time),
            Self::TextOrDuration => type_.is_text() || matches!(type_, Type::Duration),
        }
    }

    /// The type of a result.
    pub(super) fn gives(self, on: Option<&Type>) -> Type {
        match self {
            Self::Text => Type::Text,
            Self::Int => Type::Int,
            Self::Double => Type::Double,
            // The type of the numbers it is made of.
            Self::Number => match on {
                Some(Type::List(of)) if matches!(**of, Type::Int) => Type::Int,
                _ => Type::Double,
            },
            Self::Texts => Type::List(Box::new(Type::Text)),
            Self::Time => Type::Time,
            Self::Duration => Type::Duration,
            Self::Bool => Type::Bool,
            Self::Numbers
            | Self::Scalar
            | Self::TimeOrDuration
            | Self::Sized
            | Self::TextOrNumber
            | Self::TextOrTime
            | Self::TextOrDuration => Type::Any,
        }
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Text => "a text",
            Self::Int => "a whole number",
            Self::Double | Self::Number => "a number",
            Self::Numbers => "a list of numbers",
            Self::Texts => "a list of texts",
            Self::Time => "a moment",
            Self::Duration => "a duration",
            Self::TimeOrDuration => "a moment or a duration",
            Self::Sized => "a text, a list or a map",
            Self::Scalar => "a text, a number, a boolean, a moment or a duration",
            Self::TextOrNumber => "a text or a number",
            Self::TextOrTime => "a text or a moment",
            Self::TextOrDuration => "a text or a duration",
        }
    }
}
