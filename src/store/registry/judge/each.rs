//! Costly work on many things, on all cores.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::store::Error;

/// Ends the work when nobody waits for it any more.
pub(crate) type Stop<'a> = &'a (dyn Fn() -> Result<(), Error> + Sync);

/// Does costly work on each item, on all cores, until it is told to stop or one piece fails.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    stop: Stop<'_>,
    work: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let one = |item: &T| stop().and_then(|()| work(item));
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if items.len() < 2 || cores < 2 {
        return items.iter().map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let failed = Mutex::new(None);
    let lost = |_poison| ();
    let worker = || {
        while let Some((place, item)) = Some(next.fetch_add(1, Ordering::Relaxed))
            .and_then(|place| items.get(place).map(|item| (place, item)))
        {
            match one(item) {
                Ok(found) => lock(&done).push((place, found)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                    return;
                }
            }
        }
    };
    let outcome = thread::scope(|scope| {
        let workers: Vec<_> = (1..cores.min(items.len()))
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, worker).ok())
            .collect();
        worker();
        workers.into_iter().try_for_each(|it| it.join().map_err(lost))
    });
    outcome.map_err(|()| Error::Internal)?;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, found)| found).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
