//! Dead letters: what is parked is also stored in a dataset of its own, in the same write.

use std::{sync::Arc, time::Instant};

use bytestring::ByteString;

use crate::{
    delivery::Note,
    model::{DatasetName, Position, Timestamp},
    schema::Form,
    storage::pb::{DeadLetterRecord, EventRecord},
    store::{
        AppendMode, Error,
        catalog::Catalog,
        ingest::{self, Handling, Judge},
        sequencer::Writer,
        stage::Group,
        subscription::owner::Owner,
    },
};

/// A copy of an event that a commit group parks.
pub(crate) struct DeadLetter {
    owner: Arc<Owner>,
    dataset: DatasetName,
    position: Position,
    reason: Arc<str>,
}

impl DeadLetter {
    /// What a note asks for.
    pub(crate) fn of(owner: &Arc<Owner>, note: &Note) -> Option<Self> {
        let Note::Parked { position, reason, .. } = note else { return None };
        let dataset = owner.state().subscription.dead_letter_dataset.clone()?;
        let (owner, reason) = (Arc::clone(owner), Arc::clone(reason));
        Some(Self { owner, dataset, position: *position, reason })
    }

    /// Stores it in the group that parks its event. An event is parked all the same when that cannot be; the
    /// subscription's status tells.
    pub(crate) fn store(
        self,
        writer: &Writer,
        catalog: &Catalog,
        group: &mut Group<'_>,
        now: Timestamp,
    ) {
        if let Err(error) = self.try_store(writer, catalog, group, now) {
            let (subscription, position) = (&self.owner.name, self.position);
            tracing::warn!(%subscription, %position, %error, "no dead letter stored");
            self.owner.dead_letter_faults.add(position, now, error.to_string());
        }
    }

    fn try_store(
        &self,
        writer: &Writer,
        catalog: &Catalog,
        group: &mut Group<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let dataset = catalog.dataset(self.dataset.as_str())?;
        let event = self.parked(writer, catalog)?;
        writer.space.take(event.payload.len() as u64, Instant::now())?;
        let mut judge = Judge::by_dataset(catalog, &writer.compiled, dataset, now)?;
        // As it is stored; and what it matched it has matched: it does not happen again.
        judge.policies.payload_form = Form::Wire;
        let matchers = judge.matchers.take();
        let payload = ByteString::try_from(event.payload).map_err(|_not_text| Error::Corrupt)?;
        let (mode, validate_only) = (AppendMode::Atomic, false);
        let handling = Handling { mode, validate_only, releases: &[] };
        let (mut batch, problems) = ingest::prepare(&judge, vec![(0, Ok(payload))], handling);
        if !problems.is_empty() {
            return Err(Error::Events(problems));
        }
        batch.matchers = matchers;
        for event in &mut batch.events {
            event.record.dead_letter = Some(DeadLetterRecord {
                subscription: self.owner.name.to_string(),
                position: self.position.get(),
                reason: self.reason.to_string(),
            });
        }
        batch.encode();
        // Judged by what the group goes by, so that it is not handed back.
        let placed = group.place(batch, None, |_known| Ok(()))?;
        placed.map(drop).map_err(|_again| Error::Internal)
    }

    /// The event, if it is there still.
    fn parked(&self, writer: &Writer, catalog: &Catalog) -> Result<EventRecord, Error> {
        let gone = || Error::not_found(crate::store::Resource::Event, self.position.to_string());
        let block = writer.storage.block(self.position)?.ok_or_else(gone)?;
        let record = block.get(self.position)?.ok_or_else(gone)?;
        if catalog.floors().removes(record.dataset, self.position) {
            return Err(gone());
        }
        Ok(record)
    }
}
