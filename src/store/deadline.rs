//! How long a caller waits for an append.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use crate::store::Error;

/// When a caller stops waiting, and whether its work had begun by then.
///
/// Who answers the caller at the deadline and who writes are two; here they agree. Invariant: of
/// [`Deadline::give_up`] and [`Deadline::begin`] only one ever succeeds, so a caller who is told that
/// nothing was written can rely on it.
#[derive(Clone, Debug)]
pub struct Deadline {
    at: Instant,
    settled: Arc<OnceLock<Settled>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Begun,
    GivenUp,
}

impl Deadline {
    /// Nothing is settled yet.
    #[must_use]
    pub fn new(at: Instant) -> Self {
        Self { at, settled: Arc::default() }
    }

    /// Answers the caller that nothing was and will be written; false when that is no longer sure.
    #[must_use]
    pub fn give_up(&self) -> bool {
        *self.settled.get_or_init(|| Settled::GivenUp) == Settled::GivenUp
    }

    /// Whether the work may begin now; once it has, what becomes of it is not known until its end.
    pub(crate) fn begin(&self, now: Instant) -> bool {
        now < self.at && *self.settled.get_or_init(|| Settled::Begun) == Settled::Begun
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Refuses work that nobody waits for.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Error> {
        if now < self.at { Ok(()) } else { Err(Error::Deadline { begun: false }) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_begins_before_the_deadline_or_never() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let deadline = Deadline::new(later);
        assert!(deadline.begin(now));
        assert!(!deadline.clone().give_up(), "it has begun");
        // A batch that is judged again begins again, unless its time is over.
        assert!(deadline.begin(now));
        assert!(!deadline.begin(later));
        assert!(!Deadline::new(now).begin(now));
    }

    #[test]
    fn what_was_given_up_never_begins() {
        let now = Instant::now();
        let deadline = Deadline::new(now + Duration::from_secs(1));
        assert!(deadline.clone().give_up());
        assert!(!deadline.begin(now));
        assert!(deadline.give_up());
    }
}
