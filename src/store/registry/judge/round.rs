//! What one round of judging came to.

use std::{collections::HashSet, sync::Arc};

use crate::store::{
    Error,
    catalog::{Catalog, NewVersion, Registration},
    registry::judge::{
        Affected, Candidates, Judgement,
        set::{Known, Renewed},
    },
};

/// What a round came to.
pub(super) struct Round {
    pub(super) renewed: Vec<Renewed>,
    pub(super) left_behind: Vec<Arc<str>>,
    pub(super) affected: Vec<Affected>,
    pub(super) is_refused_now: bool,
    /// The documents come with the server.
    pub(super) built_in: bool,
}

impl Round {
    /// What a next round would find again: documents that refer to none that is refused.
    pub(super) fn unaffected(
        self,
        candidates: &Candidates,
        verdicts: &[Result<bool, Error>],
    ) -> Known {
        let refused = |(place, verdict): (usize, &Result<bool, Error>)| match verdict {
            Ok(_) => None,
            Err(_) => candidates.id(place),
        };
        let refused: HashSet<&str> = verdicts.iter().enumerate().filter_map(refused).collect();
        let stays = |it: &Renewed| it.closure.iter().all(|it| !refused.contains(it.id()));
        let renewed = self.renewed.into_iter().filter(stays);
        renewed.map(|it| (it.item.document.id().to_owned(), it)).collect()
    }

    pub(super) fn judgement(
        self,
        catalog: &Catalog,
        verdicts: Vec<Result<bool, Error>>,
    ) -> Judgement {
        let compiled = match (verdicts.as_slice(), self.renewed.first()) {
            ([Ok(true)], Some(first)) => first.compiled.clone(),
            _ => None,
        };
        let built_in = self.built_in;
        let broken = self.affected.iter().filter(|it| it.is_breaking());
        let forced = broken.map(Affected::audit).collect();
        let version = |it: Renewed| NewVersion {
            references: it.closure.iter().map(|it| it.id().into()).collect(),
            document: it.item.document,
            built_in: built_in && it.item.place.is_some(),
        };
        let versions = self.renewed.into_iter().map(version).collect();
        Judgement {
            registration: Registration {
                versions,
                forced,
                descriptors: Vec::new(),
                seen: catalog.seen(),
            },
            verdicts,
            left_behind: self.left_behind,
            descriptors: Vec::new(),
            affected: self.affected,
            compiled,
        }
    }
}
