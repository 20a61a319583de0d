//! Trimming: a dataset's oldest events go, by raising its floor.

use std::sync::Arc;

use crate::{
    model::{Position, Tagged, Timestamp},
    storage::Span,
    store::{Dataset, DatasetStats, Error, EventStore, blocking, catalog::check_dataset_etag},
};

/// Which events go. Exclusive: the event at the bound stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimBefore {
    /// Events before this position.
    Position(Position),
    /// Events stored before this time.
    RecordTime(Timestamp),
}

/// What a trim came to.
#[derive(Clone, Debug)]
pub struct Trimmed {
    /// The dataset as it now is.
    pub dataset: Arc<Dataset>,
    /// What it now holds.
    pub stats: DatasetStats,
    /// How many events this trim has removed, or would have.
    pub removed: u64,
}

impl EventStore {
    /// Removes a dataset's events before a bound. Durable, and visible to every reader, when it
    /// returns.
    ///
    /// # Errors
    /// When the dataset does not exist or has changed since, or the bound is beyond the log's end.
    pub async fn trim_dataset(
        &self,
        name: String,
        before: TrimBefore,
        etag: Option<String>,
        validate_only: bool,
    ) -> Result<Trimmed, Error> {
        self.check_open()?;
        let until = self.last_position_before(before).await?;
        loop {
            let seen = self.dataset(&name)?;
            check_dataset_etag(&seen, etag.as_deref())?;
            let storage = Arc::clone(&self.inner.storage);
            let (number, span) = (seen.number, Span { after: seen.floor, until });
            let (floor, removed) =
                match blocking(move || Ok(storage.last_held(number, Tagged::Included, span)?))
                    .await?
                {
                    Some(found) if !validate_only => found,
                    found => {
                        let stats = self.dataset_stats(&seen).await?;
                        let removed = found.map_or(0, |(_, count)| count);
                        return Ok(Trimmed { dataset: seen, stats, removed });
                    }
                };
            let etag = etag.clone();
            let trimmed = self
                .change(move |catalog, _now| catalog.trim_dataset(&seen, etag.as_deref(), floor))
                .await?;
            // Otherwise another trim went between: what is left to remove is counted again.
            if let Some(dataset) = trimmed {
                let stats = self.dataset_stats(&dataset).await?;
                return Ok(Trimmed { dataset, stats, removed });
            }
        }
    }

    async fn last_position_before(&self, before: TrimBefore) -> Result<Position, Error> {
        let last = self.last_position();
        match before {
            TrimBefore::Position(before) if before.previous() > last => {
                Err(Error::Beyond { position: before.previous(), last })
            }
            TrimBefore::Position(before) => Ok(before.previous()),
            TrimBefore::RecordTime(time) => {
                let (storage, us) = (Arc::clone(&self.inner.storage), time.micros_ceil());
                blocking(move || Ok(storage.last_before(us, last)?)).await
            }
        }
    }
}
