//! A document and all it refers to, made ready to judge events.

use std::{fmt, sync::Arc};

use jsonschema::{
    FancyRegex, PatternOptions, Regex, Registry, RegistryBuilder, ValidationError, Validator,
    error::ValidationErrorKind,
};
use serde_json::json;

use crate::{
    model::{Violation, json::Document, limits},
    schema::{
        EventFields, Forms, SchemaDocument, SchemaProblem, UnknownFields,
        arena::{Arena, Judged, Patterns},
        described::Described,
        graph::Graph,
        identity,
        space::Space,
        violation,
    },
};

/// A schema ready to judge events.
pub struct CompiledSchema {
    id: String,
    validator: Validator<Arena>,
    patterns: Patterns,
    fields: Arc<EventFields>,
    described: Described,
    forms: Forms,
}

impl fmt::Debug for CompiledSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledSchema").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Compiles `root` against exactly the documents of its `closure`.
///
/// # Errors
///
/// `Unresolved` for a reference to a place that does not exist, `Cycle` for schemas that apply each
/// other without end, `TooLarge` above the limits, `Invalid` for patterns that do not compile, ids
/// defined twice, more than one primary identity.
pub fn compile(
    root: &Arc<SchemaDocument>,
    closure: &[Arc<SchemaDocument>],
) -> Result<CompiledSchema, SchemaProblem> {
    compile_wire(root, closure).map_err(|it| it.told_of(root))
}

fn compile_wire(
    root: &Arc<SchemaDocument>,
    closure: &[Arc<SchemaDocument>],
) -> Result<CompiledSchema, SchemaProblem> {
    Graph::new(root, closure)?.check()?;
    let id = root.id().to_owned();
    let identities = identity::collect(root, closure.iter().map(Arc::as_ref))?;
    let fields = Arc::new(EventFields { identities, ..EventFields::default() });
    let others = closure.iter().map(|it| (it.id(), &it.value));
    let registry = Registry::new()
        .extend(others.chain([(root.id(), &root.value)]))
        .and_then(RegistryBuilder::prepare)
        .map_err(|error| SchemaProblem::invalid("", violation::shorten(&error.to_string())))?;
    let options = jsonschema::options_for::<Arena>()
        .with_base_uri(root.id())
        .with_registry(&registry)
        .offline();
    let built = options.clone().with_pattern_options(linear()).build(&root.value);
    let (validator, patterns) = if let Ok(validator) = built {
        (validator, Patterns::Linear)
    } else {
        let built = options.with_pattern_options(backtracking()).build(&root.value);
        (built.map_err(|error| refused(root, &error))?, Patterns::Backtracking)
    };
    let space = Arc::new(Space::new(Arc::clone(root), closure));
    let (described, forms) = (Described::new(Arc::clone(&space)), Forms::of(space));
    Ok(CompiledSchema { id, validator, patterns, fields, described, forms })
}

fn linear() -> PatternOptions<Regex> {
    PatternOptions::regex()
        .size_limit(limits::PATTERN_BYTES_MAX)
        .dfa_size_limit(limits::PATTERN_BYTES_MAX)
}

/// For schemas of which some pattern looks around or back, perhaps; it takes the others as fast.
fn backtracking() -> PatternOptions<FancyRegex> {
    PatternOptions::fancy_regex()
        .backtrack_limit(limits::PATTERN_BACKTRACK_MAX)
        .size_limit(limits::PATTERN_BYTES_MAX)
        .dfa_size_limit(limits::PATTERN_BYTES_MAX)
}

/// What tells whether a string matches a pattern, as `compile` has it; `None` for one that it refuses.
pub(super) fn pattern(pattern: &str) -> Option<Validator> {
    let schema = json!({ "pattern": pattern });
    let options = jsonschema::options().offline();
    let built = options.clone().with_pattern_options(linear()).build(&schema);
    built.or_else(|_| options.with_pattern_options(backtracking()).build(&schema)).ok()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "one kind among many")]
fn refused(root: &SchemaDocument, error: &ValidationError<'_>) -> SchemaProblem {
    let at = violation::schema_path(root.id(), error);
    let own = at.strip_prefix(root.id()).and_then(|it| it.strip_prefix('#'));
    let message = match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => {
            let (pattern, max) = (error.instance(), limits::PATTERN_BYTES_MAX);
            format!("pattern {pattern} does not compile, or takes more than {max} bytes compiled")
        }
        _ => error.to_string(),
    };
    let message = violation::shorten(&message);
    match own {
        Some(pointer) => SchemaProblem::invalid(pointer, message),
        None => SchemaProblem::invalid("", format!("in `{at}`: {message}")),
    }
}

impl CompiledSchema {
    /// `$id` of the schema.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything wrong with an event, at most `max` violations and at least one; empty when it is
    /// valid.
    #[must_use]
    pub fn violations(&self, event: &Document<'_>, max: usize) -> Vec<Violation> {
        self.judge(event, UnknownFields::AsSchema, max)
    }

    /// As [`Self::violations`], with a rule for the keys that the schema does not describe.
    #[must_use]
    pub fn judge(
        &self,
        event: &Document<'_>,
        unknown: UnknownFields,
        max: usize,
    ) -> Vec<Violation> {
        let max = max.max(1);
        let judged = Judged::new(event, self.patterns, limits::JUDGE_STEPS_MAX);
        let valid = self.validator.is_valid(judged.root());
        if judged.is_exhausted() {
            return vec![violation::undecided(&self.id)];
        }
        let mut found = if valid { Vec::new() } else { self.explain(event, unknown, max) };
        if unknown == UnknownFields::Refuse && found.len() < max {
            found.extend(self.described.unknown(event.root(), max - found.len()));
        }
        found
    }

    /// Why the schema does not take an event, if it is not for unknown keys that are to be taken.
    #[cold]
    fn explain(&self, event: &Document<'_>, unknown: UnknownFields, max: usize) -> Vec<Violation> {
        let steps = match self.patterns {
            Patterns::Linear => limits::JUDGE_STEPS_MAX,
            // Judging stops at the first match that takes too long; explaining meets them all.
            Patterns::Backtracking => limits::JUDGE_STEPS_MAX / 32,
        };
        let judged = Judged::new(event, self.patterns, steps);
        let errors = self.validator.iter_errors(judged.root());
        let mut found: Vec<Violation> = Vec::new();
        let mut some_allowed = false;
        if judged.is_exhausted() {
            // More than can be collected: the first one, and that there are more.
            let judged = Judged::new(event, self.patterns, steps);
            let first = self.validator.validate(judged.root()).err();
            let first = first.filter(|_| !judged.is_exhausted());
            found.extend(first.map(|it| violation::from_error(&self.id, event, &it)));
            found.push(violation::undecided(&self.id));
        } else {
            let counts = |error: &ValidationError<'_>| {
                let is_allowed =
                    unknown == UnknownFields::Allow && violation::is_of_unknown_keys(error);
                some_allowed |= is_allowed;
                !is_allowed
            };
            let errors = errors.filter(counts).take(max);
            found.extend(errors.map(|it| violation::from_error(&self.id, event, &it)));
        }
        if found.is_empty() && !some_allowed {
            found.push(violation::undecided(&self.id)); // never take what was found invalid
        }
        found.truncate(max);
        found
    }

    /// The schema's fields by their names in both forms.
    #[must_use]
    pub fn forms(&self) -> &Forms {
        &self.forms
    }

    /// The fields that descriptors within the documents speak of.
    #[must_use]
    pub fn fields(&self) -> &Arc<EventFields> {
        &self.fields
    }
}
