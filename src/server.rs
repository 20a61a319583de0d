//! Runs a server: opens the store, listens, and shuts down in order.

use std::{
    io::{self, Write},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};

use crate::{
    config::Config,
    grpc,
    storage::StorageError,
    store::{EventStore, StoreOptions},
};

/// Threads that judge batches and read the disk. Each keeps compression contexts of about a
/// megabyte.
const BLOCKING_THREADS_MAX: usize = 32;

/// What the disk reserve should have beside the bytes of the queue: the journal's 64 MiB, and as much
/// for what is packed between two syncs and for segments of the index.
const RESERVE_BESIDE_QUEUE_BYTES: u64 = 128 * 1024 * 1024;

/// Why a server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store did not open or close.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused something else.
    #[error(transparent)]
    System(#[from] io::Error),
    /// gRPC ended early.
    #[error(transparent)]
    Grpc(#[from] grpc::ServeError),
}

/// Serves until SIGTERM or SIGINT, then: refuses new calls, ends follows with a reason, lets calls
/// under way finish for at most the drain timeout, carries out what is queued, writes everything. A
/// second signal ends the drain at once.
///
/// # Errors
/// When the server cannot start, or the last write fails.
pub fn run(config: &Config) -> Result<(), ServeError> {
    let options = StoreOptions {
        cache_bytes: config.cache_bytes,
        queue_bytes: usize::try_from(config.queue_bytes).unwrap_or(usize::MAX),
        disk_reserve: config.disk_reserve,
        retention_interval: config.retention_interval,
        quarantine_bytes: config.quarantine_bytes,
        quarantine_age: config.quarantine_age,
        tenant: config.tenant.clone(),
        buffered_appends: config.buffered_appends,
        ..StoreOptions::default()
    };
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let sound = config.queue_bytes.saturating_add(RESERVE_BESIDE_QUEUE_BYTES);
    if (1..sound).contains(&config.disk_reserve) {
        let disk_reserve = config.disk_reserve;
        tracing::warn!(
            disk_reserve,
            sound,
            "disk reserve is small: the disk may fill up all the same"
        );
    }
    let store = EventStore::open(&config.data_dir, options)?;
    let served = runtime.block_on(listen_and_serve(config, store.clone()));
    // Handlers that did not finish are dropped; their batches, if queued, are still carried out.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let closed = store.close();
    served?;
    closed?;
    tracing::info!("stopped");
    Ok(())
}

async fn listen_and_serve(config: &Config, store: EventStore) -> Result<(), ServeError> {
    let address = config.listen;
    let cannot_listen = |error| ServeError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let address = listener.local_addr()?;
    announce(address)?;
    let last_position = store.last_position();
    tracing::info!(%address, data_dir = %config.data_dir.display(), %last_position, "serving");
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listening beyond this machine, without TLS or tokens");
    }

    let (signalled, signals) = watch::channel(0);
    tokio::spawn(count_signals(signalled)?);
    let first = wait_for(signals.clone(), 1);
    let mut serving = std::pin::pin!(grpc::serve(store, listener, first));
    tokio::select! {
        served = &mut serving => return Ok(served?),
        () = wait_for(signals.clone(), 1) => {}
    }
    tracing::info!("shutting down");
    tokio::select! {
        drained = timeout(config.drain_timeout, &mut serving) => match drained {
            Ok(served) => Ok(served?),
            Err(_elapsed) => {
                tracing::warn!("calls were still under way after the drain timeout");
                Ok(())
            }
        },
        () = wait_for(signals, 2) => {
            tracing::warn!("second signal: not waiting for calls under way");
            Ok(())
        }
    }
}

/// The one line on standard output: scripts and tests read the address from it.
fn announce(address: std::net::SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "milepost listening on {address}")?;
    out.flush()
}

fn count_signals(
    count: watch::Sender<u32>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|it| *it += 1);
        }
    })
}

async fn wait_for(mut signals: watch::Receiver<u32>, count: u32) {
    // The sender lives as long as the runtime.
    drop(signals.wait_for(|it| *it >= count).await);
}
