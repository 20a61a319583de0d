//! Lets the JSON Schema crate judge our own JSON arena, under a bound.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    collections::HashSet,
};

use jsonschema::{
    JsonType,
    json::{Array, Json, JsonNumber, Node, NodeIdentity, Object},
};
use serde_json::Value;

use crate::model::{
    json::{self, Document, Kind, Number},
    limits,
};

/// The JSON representation of the arena.
pub(super) struct Arena;

/// One event under judgement.
///
/// Recursive schemas can visit one value exponentially often, and deep events can take much stack. So
/// each visit takes a step, too deep a visit takes all, and when none are left, containers look
/// empty: the judgement ends soon, and its outcome is void.
pub(super) struct Judged<'a> {
    document: &'a Document<'a>,
    steps: Cell<u32>,
    /// Where the stack was when judging began.
    stack: usize,
    /// Whether matching a pattern can take long.
    backtracks: bool,
    whole: OnceCell<Value>,
}

impl<'a> Judged<'a> {
    pub(super) fn new(document: &'a Document<'a>, patterns: Patterns, steps: u32) -> Self {
        Self {
            document,
            steps: Cell::new(steps),
            stack: stack_address(),
            backtracks: patterns == Patterns::Backtracking,
            whole: OnceCell::new(),
        }
    }

    pub(super) fn root(&'a self) -> ArenaNode<'a> {
        ArenaNode::Value(self, self.document.root())
    }

    /// Whether the steps ran out, which voids the outcome.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps.get() == 0
    }

    fn take(&self, steps: u32) -> bool {
        let mut left = self.steps.get().saturating_sub(steps);
        if self.stack.abs_diff(stack_address()) > limits::JUDGE_STACK_BYTES_MAX {
            left = 0;
        }
        self.steps.set(left);
        left > 0
    }

    /// Passes a string on to be matched, or an empty one when no steps are left.
    #[inline]
    fn take_string(&self, text: &'a str) -> &'a str {
        if self.backtracks { self.take_backtracking(text) } else { text }
    }

    #[cold]
    fn take_backtracking(&self, text: &'a str) -> &'a str {
        // Short strings cannot take long; no string takes longer than its limit.
        let square = text.len().saturating_mul(text.len()).min(limits::PATTERN_BACKTRACK_MAX);
        let steps = u32::try_from(square).unwrap_or(u32::MAX);
        if self.take(steps) { text } else { "" }
    }
}

/// How a schema's patterns are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patterns {
    /// In linear time.
    Linear,
    /// With look-around or back-references, each match within `limits::PATTERN_BACKTRACK_MAX`.
    Backtracking,
}

/// About where the stack is now.
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Steps that one reported error takes, each holding some memory until all are collected.
const STEPS_PER_ERROR: u32 = 100;

/// A value of the event, or the name of a member standing for itself.
#[derive(Clone, Copy)]
pub(super) enum ArenaNode<'a> {
    Value(&'a Judged<'a>, json::Node<'a>),
    Name(&'a str),
}

impl Json for Arena {
    type Node<'a> = ArenaNode<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    // A lookup compares keys one by one, so passing over the members costs about the same.
    const KEYS_PER_LOOKUP: usize = 1;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(ArenaNode<'_>) -> T) -> T {
        f(ArenaNode::Name(string))
    }
}

impl<'a> ArenaNode<'a> {
    fn node(&self) -> Option<&json::Node<'a>> {
        match self {
            Self::Value(_, node) => Some(node),
            Self::Name(_) => None,
        }
    }
}

impl<'a> Node<'a, Arena> for ArenaNode<'a> {
    type Object = ArenaObject<'a>;
    type Array = ArenaArray<'a>;
    type Number = Number;

    fn as_object(&self) -> Option<ArenaObject<'a>> {
        match self {
            Self::Value(judged, node) if node.is_object() => {
                judged.take(1);
                Some(ArenaObject { judged, node: *node })
            }
            Self::Value(..) | Self::Name(_) => None,
        }
    }

    fn as_array(&self) -> Option<ArenaArray<'a>> {
        match self {
            Self::Value(judged, node) if node.is_array() => {
                judged.take(1);
                Some(ArenaArray { judged, node: *node })
            }
            Self::Value(..) | Self::Name(_) => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Value(judged, node) => {
                node.as_str().map(|text| Cow::Borrowed(judged.take_string(text)))
            }
            Self::Name(name) => Some(Cow::Borrowed(name)),
        }
    }

    fn as_number(&self) -> Option<Number> {
        self.node()?.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.node()?.as_bool()
    }

    fn is_null(&self) -> bool {
        self.node().is_some_and(json::Node::is_null)
    }

    fn json_type(&self) -> JsonType {
        match self.node().map_or(Kind::String, json::Node::kind) {
            Kind::Null => JsonType::Null,
            Kind::Boolean => JsonType::Boolean,
            Kind::Number => JsonType::Number,
            Kind::String => JsonType::String,
            Kind::Array => JsonType::Array,
            Kind::Object => JsonType::Object,
        }
    }

    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        let text = self.as_string()?;
        // A character takes one to four bytes, so most strings need no counting.
        let bytes = text.len() as u64;
        let fewest = bytes.div_ceil(4);
        if bytes < min || fewest > max {
            return Some(false);
        }
        if min <= fewest && bytes <= max {
            return Some(true);
        }
        Some((min..=max).contains(&(text.chars().count() as u64)))
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match self {
            Self::Value(_, node) => node.same_value(expected),
            Self::Name(name) => expected.as_str() == Some(name),
        }
    }

    /// Only errors ask for it. They are worded from the arena instead, so a part stands as `null`:
    /// a thousand errors must not mean a thousand copies. The whole is real, for the crate looks
    /// into it when a pattern could not be finished.
    fn to_value(&self) -> Cow<'a, Value> {
        match self {
            Self::Value(judged, node) => {
                judged.take(STEPS_PER_ERROR);
                if node.index() == 0 {
                    Cow::Borrowed(judged.whole.get_or_init(|| node.to_value()))
                } else {
                    Cow::Owned(Value::Null)
                }
            }
            Self::Name(name) => Cow::Owned(Value::String((*name).to_owned())),
        }
    }

    fn identity(&self) -> Option<NodeIdentity> {
        match self {
            Self::Value(judged, node) => {
                let address = std::ptr::from_ref::<Document<'_>>(judged.document).addr();
                Some(NodeIdentity::tagged(address, node.index()))
            }
            Self::Name(name) => Some(NodeIdentity::tagged(name.as_ptr().addr(), u32::MAX)),
        }
    }
}

/// An object of the event.
pub(super) struct ArenaObject<'a> {
    judged: &'a Judged<'a>,
    node: json::Node<'a>,
}

impl<'a> Object<'a, Arena> for ArenaObject<'a> {
    type Node = ArenaNode<'a>;
    type MemberName = &'a str;
    type MembersIter = ArenaMembers<'a>;

    fn len(&self) -> usize {
        self.node.len()
    }

    fn get(&self, key: &String) -> Option<ArenaNode<'a>> {
        let member = self.node.get(key)?;
        self.judged.take(1).then_some(ArenaNode::Value(self.judged, member))
    }

    fn members(&self) -> ArenaMembers<'a> {
        ArenaMembers { judged: self.judged, members: self.node.members() }
    }
}

/// The members of an object.
pub(super) struct ArenaMembers<'a> {
    judged: &'a Judged<'a>,
    members: json::Members<'a>,
}

impl<'a> Iterator for ArenaMembers<'a> {
    type Item = (&'a str, ArenaNode<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, member) = self.members.next()?;
        self.judged.take(1).then_some((key, ArenaNode::Value(self.judged, member)))
    }
}

/// An array of the event.
pub(super) struct ArenaArray<'a> {
    judged: &'a Judged<'a>,
    node: json::Node<'a>,
}

/// Arrays up to this length are compared pair by pair.
const PAIRED_ELEMENTS_MAX: usize = 8;

impl<'a> Array<'a, Arena> for ArenaArray<'a> {
    type Node = ArenaNode<'a>;
    type ElementsIter = ArenaElements<'a>;

    fn len(&self) -> usize {
        self.node.len()
    }

    fn elements(&self) -> ArenaElements<'a> {
        ArenaElements { judged: self.judged, elements: self.node.elements() }
    }

    fn is_unique(&self) -> bool {
        let mut elements = self.node.elements();
        if self.node.len() > PAIRED_ELEMENTS_MAX {
            let mut seen = HashSet::with_capacity(self.node.len());
            return elements.all(|it| seen.insert(it.canonical_json()));
        }
        while let Some(element) = elements.next() {
            if elements.clone().any(|it| it.same_json(&element)) {
                return false;
            }
        }
        true
    }
}

/// The elements of an array.
pub(super) struct ArenaElements<'a> {
    judged: &'a Judged<'a>,
    elements: json::Elements<'a>,
}

impl<'a> Iterator for ArenaElements<'a> {
    type Item = ArenaNode<'a>;

    fn next(&mut self) -> Option<ArenaNode<'a>> {
        let element = self.elements.next()?;
        self.judged.take(1).then_some(ArenaNode::Value(self.judged, element))
    }
}

impl JsonNumber for Number {
    fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(_) | Self::Float(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Unsigned(value) => i64::try_from(*value).ok(),
            Self::Signed(value) => Some(*value),
            Self::Float(_) => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        Some(Number::as_f64(*self))
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_json().to_string())
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(self.to_json())
    }

    fn is_integer(&self) -> bool {
        self.is_whole()
    }

    fn is_written_as_integer(&self) -> bool {
        !matches!(self, Self::Float(_))
    }
}
