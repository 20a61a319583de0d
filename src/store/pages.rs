//! The pages of a read, made ahead of who takes them.
//!
//! A page is made on a thread that may wait for the disk. One that goes on making them, as long as there is room,
//! is spared the way back and forth for each.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{self, OwnedPermit};

use crate::store::{
    Error, blocking,
    catalog::Catalog,
    read::{Page, Reader},
};

/// Pages that wait for who takes them.
const AHEAD_MAX: usize = 2;

/// A read under way, page by page.
pub(super) struct Pages {
    catalogs: Arc<ArcSwap<Catalog>>,
    /// What has not been taken.
    left: Reader,
    /// Its pages, once it has turned out to be more than a small one.
    ahead: Option<mpsc::Receiver<Result<Page, Error>>>,
    done: bool,
}

impl Pages {
    pub(super) fn new(left: Reader, catalogs: Arc<ArcSwap<Catalog>>) -> Self {
        Self { catalogs, left, ahead: None, done: false }
    }

    /// Whether no page is left.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Ends the read: there is no further page.
    pub(super) fn end(&mut self) {
        (self.ahead, self.done) = (None, true);
    }

    /// The next page, as it would be were it made now; `None` after the last one, or after an error.
    pub(super) async fn next(&mut self) -> Option<Result<Page, Error>> {
        if !self.done
            && self.ahead.is_none()
            && let Some(page) = self.left.small_page(&self.catalogs).transpose()
        {
            return Some(self.take(page));
        }
        while !self.done {
            let (left, catalogs) = (&self.left, &self.catalogs);
            let ahead =
                self.ahead.get_or_insert_with(|| make_ahead(left.rest(), Arc::clone(catalogs)));
            // Whatever makes them may have failed without a word.
            let page = ahead.recv().await.unwrap_or(Err(Error::Internal));
            if let Ok(page) = &page {
                if self.left.is_outdated(page, &self.catalogs.load()) {
                    // A trim went between.
                    self.ahead = None;
                    continue;
                }
                self.left.pass(page);
            }
            return Some(self.take(page));
        }
        None
    }

    fn take(&mut self, page: Result<Page, Error>) -> Result<Page, Error> {
        self.done = page.as_ref().map_or(true, |page| page.done);
        page
    }
}

/// Makes the pages of a reader until it ends, fails, or nobody takes them any more.
fn make_ahead(
    reader: Reader,
    catalogs: Arc<ArcSwap<Catalog>>,
) -> mpsc::Receiver<Result<Page, Error>> {
    let (out, pages) = mpsc::channel(AHEAD_MAX);
    tokio::spawn(async move {
        let mut left = Some(reader);
        while let Some(reader) = left.take()
            && let Ok(room) = out.clone().reserve_owned().await
        {
            let catalogs = Arc::clone(&catalogs);
            let made = blocking(move || Ok(fill(reader, &catalogs, room))).await;
            left = made.ok().flatten();
        }
    });
    pages
}

/// Makes pages as long as there is room for them; the reader, unless it has ended.
fn fill(
    mut reader: Reader,
    catalogs: &ArcSwap<Catalog>,
    mut room: OwnedPermit<Result<Page, Error>>,
) -> Option<Reader> {
    loop {
        let page = reader.next_page(catalogs);
        let ends = page.as_ref().map_or(true, |page| page.done);
        let out = room.send(page);
        if ends {
            return None;
        }
        match out.try_reserve_owned() {
            Ok(more) => room = more,
            Err(_full) => return Some(reader),
        }
    }
}
