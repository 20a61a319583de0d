//! Reading, counting and following, from the caller's side.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::mpsc;

use crate::{
    model::{Direction, EventFilter, Position, RecordedEvent, Timestamp},
    storage::{Floors, Span, id_hash},
    store::{
        BelowFloor, Error, EventStore, Follow, FollowEnd, FollowMessage, Page, Read, Resource,
        Start, blocking,
        follow::{self, Follower},
        pages::Pages,
        plan::Plan,
        read::{self, Reader},
    },
};

impl EventStore {
    /// An event by position.
    ///
    /// # Errors
    /// [`Error::NotFound`] beyond the last position, or when it was removed.
    pub async fn event_at(&self, position: Position) -> Result<RecordedEvent, Error> {
        let store = self.clone();
        blocking(move || {
            let found = store.load(position)?.map(|(event, _)| event);
            found.ok_or_else(|| Error::not_found(Resource::Event, position.to_string()))
        })
        .await
    }

    /// An event by its sender's id: the last one that has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the dataset does not exist or has no such event.
    pub async fn event_with_id(&self, dataset: &str, id: &str) -> Result<RecordedEvent, Error> {
        let number = self.catalog().dataset(dataset)?.number;
        let (store, id) = (self.clone(), id.to_owned());
        blocking(move || {
            let mut positions = store.inner.storage.ids_with(id_hash(number, &id))?;
            positions.sort_unstable();
            for position in positions.into_iter().rev() {
                match store.load(position)? {
                    Some((event, dataset)) if dataset == number && event.event_id == id => {
                        return Ok(event);
                    }
                    _ => {}
                }
            }
            Err(Error::not_found(Resource::Event, id))
        })
        .await
    }

    /// A visible event and its dataset's number.
    pub(super) fn load(&self, position: Position) -> Result<Option<(RecordedEvent, u32)>, Error> {
        if position == Position::START || position > self.last_position() {
            return Ok(None);
        }
        let Some(block) = self.inner.storage.block(position)? else { return Ok(None) };
        let Some(record) = block.get(position)? else { return Ok(None) };
        let (time, dataset) = (block.record_time(&record), record.dataset);
        let catalog = self.catalog();
        if catalog.floors().removes(dataset, position) {
            return Ok(None);
        }
        let event = read::recorded(&catalog, position, record, time)?;
        Ok(event.map(|event| (event, dataset)))
    }

    /// Starts a read of what is durable now.
    ///
    /// # Errors
    /// When the filter names something that does not exist. That it begins below lost events shows
    /// with its first page.
    pub fn read(&self, read: &Read) -> Result<EventReader, Error> {
        let catalog = self.catalog();
        let plan = Plan::new(&read.filter, &catalog)?;
        let last = self.last_position();
        let until = match read.before {
            Position::START => last,
            before => before.previous().min(last),
        };
        let span = Span { after: read.after.min(until), until };
        // Who names no position knows of every loss: it begins with the first event that is kept.
        let known = match read.after {
            Position::START => Arc::clone(catalog.floors()),
            _ => Arc::default(),
        };
        let reader = self.reader(plan, known, span, read.direction, read.limit);
        Ok(EventReader {
            pages: self.pages(reader),
            direction: read.direction,
            below_floor: Some(read.below_floor),
            until: span.until,
        })
    }

    /// A reader who has been told of the losses in `floors`.
    pub(super) fn reader(
        &self,
        plan: Plan,
        floors: Arc<Floors>,
        span: Span,
        direction: Direction,
        limit: u64,
    ) -> Reader {
        Reader::new(Arc::clone(&self.inner.storage), plan, floors, span, direction, limit)
    }

    /// The pages of a reader.
    pub(super) fn pages(&self, reader: Reader) -> Pages {
        Pages::new(reader, Arc::clone(&self.inner.catalog))
    }

    /// The next page alone, for one who says before each what it may take.
    pub(super) async fn next_page(&self, mut reader: Reader) -> Result<(Reader, Page), Error> {
        let catalogs = Arc::clone(&self.inner.catalog);
        if let Some(page) = reader.small_page(&catalogs)? {
            return Ok((reader, page));
        }
        blocking(move || {
            let page = reader.next_page(&catalogs)?;
            Ok((reader, page))
        })
        .await
    }

    /// Counts the events that a filter selects.
    ///
    /// # Errors
    /// When the filter names something that does not exist.
    pub async fn count(&self, filter: &EventFilter) -> Result<u64, Error> {
        let span = Span { after: Position::START, until: self.last_position() };
        let (storage, catalogs) =
            (Arc::clone(&self.inner.storage), Arc::clone(&self.inner.catalog));
        let filter = filter.clone();
        blocking(move || read::count(&storage, &catalogs, &filter, span)).await
    }

    /// Checks a follow and starts it; its messages arrive in `out` until it ends.
    ///
    /// # Errors
    /// When the filter names something that does not exist, the start is not in this log, or it is
    /// below lost events and the follow does not want to be told.
    pub async fn follow(
        &self,
        follow: Follow,
        out: mpsc::Sender<Result<FollowMessage, FollowEnd>>,
    ) -> Result<(), Error> {
        self.check_open()?;
        Plan::new(&follow.filter, &self.catalog())?;
        let after = self.resolve_start(&follow).await?;
        let known = self.known_losses(&follow, after).await?;
        let follower = Follower::new(self.clone(), follow, after, known, out);
        let inner = Arc::clone(&self.inner);
        inner.followers.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            follower.run().await;
            inner.followers.fetch_sub(1, Ordering::Relaxed);
        });
        Ok(())
    }

    /// The floors that a follow need not be told of, unless it is refused.
    async fn known_losses(&self, follow: &Follow, after: Position) -> Result<Arc<Floors>, Error> {
        let catalog = self.catalog();
        let floors = Arc::clone(catalog.floors());
        let begins = match follow.start {
            // The first event that is kept.
            Start::Beginning | Start::End => true,
            Start::After(_) | Start::EventTime(_) | Start::Token(_) => after == Position::START,
            Start::RecordTime(_) => false,
        };
        if begins || floors.is_empty() {
            return Ok(floors);
        }
        if follow.below_floor == BelowFloor::Clamp {
            return Ok(Arc::default());
        }
        let mut plan = Plan::new(&follow.filter, &catalog)?;
        plan.query.floors = Arc::default();
        let (storage, span) =
            (Arc::clone(&self.inner.storage), Span { after, until: self.last_position() });
        blocking(move || {
            let begin = plan.narrow(&storage, span)?.after;
            match plan.lost(&catalog, begin) {
                Position::START => Ok(floors),
                floor => Err(Error::Trimmed { position: after, floor }),
            }
        })
        .await
    }

    pub(super) async fn resolve_start(&self, follow: &Follow) -> Result<Position, Error> {
        let last = self.last_position();
        let beyond = |position: Position| Err(Error::Beyond { position, last });
        match &follow.start {
            Start::Beginning => Ok(Position::START),
            Start::End => Ok(last),
            Start::After(position) if *position > last => beyond(*position),
            Start::After(position) => Ok(*position),
            Start::Token(token) => {
                let (epoch, position) = follow::parse_token(token).ok_or(Error::ResumeToken)?;
                if epoch != self.epoch() {
                    return Err(Error::EpochChanged { nearest: position.min(last) });
                }
                if position > last { beyond(position) } else { Ok(position) }
            }
            Start::RecordTime(time) => {
                let (storage, us) = (Arc::clone(&self.inner.storage), time.micros_ceil());
                blocking(move || Ok(storage.last_before(us, last)?)).await
            }
            Start::EventTime(time) => self.last_before_event_time(*time, last).await,
        }
    }

    /// The position before the first event, in log order, that happened at `time` or later.
    async fn last_before_event_time(
        &self,
        time: Timestamp,
        last: Position,
    ) -> Result<Position, Error> {
        let mut filter = EventFilter::default();
        filter.event_time.start = Some(time);
        let catalog = self.catalog();
        let (plan, floors) = (Plan::new(&filter, &catalog)?, Arc::clone(catalog.floors()));
        let span = Span { after: Position::START, until: last };
        let mut pages = self.pages(self.reader(plan, floors, span, Direction::Forward, 1));
        while let Some(page) = pages.next().await.transpose()? {
            if let Some(event) = page.events.first() {
                return Ok(event.position.previous());
            }
        }
        Ok(last)
    }
}

/// A read under way.
pub struct EventReader {
    pages: Pages,
    direction: Direction,
    /// Until the first page.
    below_floor: Option<BelowFloor>,
    /// The last position of what is left.
    until: Position,
}

impl EventReader {
    /// Whether no page is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.pages.is_done()
    }

    /// Ends the read: there is no further page.
    pub fn end(&mut self) {
        self.pages.end();
    }

    /// The next events; `None` after the last page.
    ///
    /// # Errors
    /// When stored data cannot be read; at first, when the read begins below lost events; later, when
    /// a dataset that its filter names was deleted.
    pub async fn next_page(&mut self) -> Result<Option<Page>, Error> {
        let Some(mut page) = self.pages.next().await.transpose()? else { return Ok(None) };
        let first = self.below_floor.take();
        if let Some(gap) = &mut page.gap {
            if first == Some(BelowFloor::Fail) {
                self.end();
                return Err(Error::Trimmed { position: gap.from.previous(), floor: gap.to });
            }
            gap.to = gap.to.min(self.until);
        } else if self.direction == Direction::Backward {
            self.until = page.scanned_to.previous();
        }
        Ok(Some(page))
    }
}
