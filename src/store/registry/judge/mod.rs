//! Judges documents that are to become schemas, as one set: against each other and against the
//! catalog. Costly; runs on the caller's task.
//!
//! A document gets a new version when it is new or changed, and also when something that it refers
//! to gets one: the latest version of every document judges by the latest versions of all others.

mod affected;
mod candidates;
mod descriptors;
mod each;
mod round;
mod set;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicUsize},
};

use crate::{
    model::Tenant,
    schema::{CompiledSchema, Descriptor},
    store::{
        Error,
        catalog::{Catalog, Registration},
        registry::judge::set::Set,
    },
};

pub use affected::Affected;
pub(crate) use candidates::{Candidates, RepeatedKeys};
pub(crate) use each::Stop;

/// How documents are judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Takes what can be taken, instead of everything or nothing.
    pub(crate) keep_going: bool,
    /// The documents come with the server: nothing holds them up.
    pub(crate) built_in: bool,
    /// Takes what breaks schemas in use.
    pub(crate) force: bool,
    /// Under whose name fields of candidates' own must stand.
    pub(crate) tenant: Option<Tenant>,
}

/// What came of judging.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// What is to be written.
    pub(crate) registration: Registration,
    /// For each candidate, whether it gets a new version, or why it is refused.
    pub(crate) verdicts: Vec<Result<bool, Error>>,
    /// Documents that keep judging by older versions of what they refer to, because they do not
    /// compile with the new ones.
    pub(crate) left_behind: Vec<Arc<str>>,
    /// For each descriptor, whether it is to be added, or why it is refused.
    pub(crate) descriptors: Vec<Result<bool, Error>>,
    /// What changes for datasets, and for a document that was judged alone.
    pub(crate) affected: Vec<Affected>,
    /// The compiled form, when a single document was judged.
    pub(crate) compiled: Option<Arc<CompiledSchema>>,
}

impl Judgement {
    fn is_refused(&self) -> bool {
        self.verdicts.iter().chain(&self.descriptors).any(Result::is_err)
    }
}

/// Judges candidates against the catalog. Refused ones end up in the verdicts, not in the error.
pub(crate) fn judge(
    catalog: &Catalog,
    candidates: &Candidates,
    rules: &Rules,
    stop: Stop<'_>,
) -> Result<Judgement, Error> {
    let mut verdicts: Vec<Result<bool, Error>> = candidates
        .documents
        .iter()
        .map(|it| it.as_ref().map(|_| false).map_err(|it| Error::Schema(it.clone())))
        .collect();
    refuse_repeated(candidates, &mut verdicts);
    let work = AtomicUsize::new(0);
    let mut known = HashMap::new();
    loop {
        let set = Set::new(catalog, candidates, &verdicts, known, rules);
        let found = set.judge(&mut verdicts, rules, &work, stop)?;
        if !(found.is_refused_now && rules.keep_going) {
            let mut judgement = found.judgement(catalog, verdicts);
            let registration = &mut judgement.registration;
            let said = candidates.descriptors();
            judgement.descriptors = descriptors::judge(catalog, &registration.versions, said);
            let is_new = |(it, verdict): (&Descriptor, &Result<bool, Error>)| {
                matches!(verdict, Ok(true)).then(|| it.clone())
            };
            registration.descriptors =
                said.iter().zip(&judgement.descriptors).filter_map(is_new).collect();
            if judgement.is_refused() && !rules.keep_going {
                judgement.registration.versions.clear();
                judgement.registration.descriptors.clear();
            }
            return Ok(judgement);
        }
        // What was refused may have been referred to: once more without it.
        known = found.unaffected(candidates, &verdicts);
    }
}

/// Two documents of one `$id`: which one is meant is not known, so neither is taken.
fn refuse_repeated(candidates: &Candidates, verdicts: &mut [Result<bool, Error>]) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, document) in candidates.documents.iter().enumerate() {
        if let Ok(document) = document {
            places.entry(document.id()).or_default().push(place);
        }
    }
    for (id, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
        for place in &places {
            let others = places.iter().filter(|it| *it != place);
            let others = others.map(|it| candidates.name(*it)).collect();
            if let Some(verdict) = verdicts.get_mut(*place) {
                *verdict = Err(Error::RepeatedId { id: id.to_owned(), others });
            }
        }
    }
}
