//! `milepost.v1.AdminService`: converts, calls, converts.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        from_proto::PageRequest,
        pb::{self, admin_service_server::AdminService},
        schemas,
        to_proto::{refusal_count, timestamp},
        verification,
    },
    model::{Direction, EventFilter, Tagged, limits},
    store::{Compaction, EventStore, FORMAT_VERSION},
};

pub(crate) struct Admin {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl AdminService for Admin {
    type CompactStoreStream = ReceiverStream<Result<pb::CompactStoreResponse, Status>>;

    async fn compact_store(
        &self,
        _request: Request<pb::CompactStoreRequest>,
    ) -> Result<Response<Self::CompactStoreStream>, Status> {
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(send_compaction(self.store.clone(), out));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    type VerifyStoreStream = ReceiverStream<Result<pb::VerifyStoreResponse, Status>>;

    async fn verify_store(
        &self,
        _request: Request<pb::VerifyStoreRequest>,
    ) -> Result<Response<Self::VerifyStoreStream>, Status> {
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(verification::send(self.store.clone(), out));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn list_audit_records(
        &self,
        request: Request<pb::ListAuditRecordsRequest>,
    ) -> Result<Response<pb::ListAuditRecordsResponse>, Status> {
        let pb::ListAuditRecordsRequest { page_size, page_token } = request.into_inner();
        let page = PageRequest::parse(page_size, &page_token, "audit")?;
        let entries = self.store.audit().into_iter().map(|it| (format!("{:020}", it.number), it));
        let (entries, next_page_token) = page.cut(entries.collect(), Direction::Backward);
        let records = entries.iter().map(|it| schemas::audit_record(it)).collect();
        Ok(Response::new(pb::ListAuditRecordsResponse { records, next_page_token }))
    }

    async fn get_server_info(
        &self,
        _request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        Ok(Response::new(pb::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_epoch: self.store.epoch().to_string(),
            format_version: FORMAT_VERSION,
            start_time: Some(timestamp(self.store.start_time())),
            tenant: self.store.tenant().map(ToString::to_string).unwrap_or_default(),
            limits: Some(pb::Limits {
                max_request_bytes: limits::REQUEST_BYTES_MAX as u64,
                max_batch_events: limits::BATCH_EVENTS_MAX as u64,
                max_event_bytes: limits::EVENT_BYTES_MAX as u64,
                max_json_depth: limits::JSON_DEPTH_MAX as u64,
                max_event_identities: limits::EVENT_IDENTITIES_MAX as u64,
                max_page_size: limits::PAGE_SIZE_MAX as u64,
                max_filter_values: limits::FILTER_VALUES_MAX as u64,
                max_schema_bytes: limits::SCHEMA_BYTES_MAX as u64,
                max_datasets: limits::DATASETS_MAX as u64,
                max_schemas: limits::SCHEMAS_MAX as u64,
            }),
        }))
    }

    async fn get_status(
        &self,
        _request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let status = self.store.status();
        let quarantine = self.store.quarantine_totals()?;
        let tagged = EventFilter { tagged: Tagged::Only, ..EventFilter::default() };
        let tagged_events = self.store.count(&tagged).await?;
        let state = match (status.poisoned, status.closing, status.disk_low) {
            (true, _, _) => pb::StoreState::Poisoned,
            (false, true, _) => pb::StoreState::Closing,
            (false, false, true) => pb::StoreState::DiskLow,
            (false, false, false) => pb::StoreState::Serving,
        };
        Ok(Response::new(pb::GetStatusResponse {
            state: state.into(),
            last_position: status.last_position.get(),
            last_record_time: status.last_record_time.map(timestamp),
            datasets: status.datasets,
            schemas: status.schemas,
            followers: status.followers,
            queue_bytes: status.queue_bytes,
            queue_bytes_max: status.queue_bytes_max,
            disk_bytes: status.disk_bytes,
            live_bytes: status.live_bytes,
            volumes: status.volumes,
            journal_bytes: status.journal_bytes,
            disk_free_bytes: status.disk_free_bytes,
            disk_reserve_bytes: status.disk_reserve_bytes,
            refused: self.store.refused(None).into_iter().map(refusal_count).collect(),
            quarantine: Some(pb::QuarantineStatus {
                events: quarantine.records,
                bytes: quarantine.bytes,
                bytes_max: quarantine.bytes_max,
                dropped: quarantine.dropped,
            }),
            tagged_events,
            index: Some(pb::IndexStatus {
                segments: status.index_segments,
                checkpoint: status.index_checkpoint.get(),
                tail_events: status.index_tail_events,
            }),
        }))
    }
}

/// Compacts, and sends how far it has come until it is done, fails, or the client leaves.
async fn send_compaction(
    store: EventStore,
    out: mpsc::Sender<Result<pb::CompactStoreResponse, Status>>,
) {
    let (progress, states) = mpsc::channel(1);
    let (compaction, forwarded) = (store.compact(progress), out.clone());
    let forward = async move {
        let out = forwarded;
        let mut states = states;
        while let Some(state) = states.recv().await {
            if out.send(Ok(compaction_response(state, false))).await.is_err() {
                // Dropping the receiver ends the compaction after the volume under way.
                return;
            }
        }
    };
    let (done, ()) = tokio::join!(compaction, forward);
    let last = done.map(|state| compaction_response(state, state.volumes_done == state.volumes));
    drop(out.send(last.map_err(Status::from)).await);
}

fn compaction_response(state: Compaction, done: bool) -> pb::CompactStoreResponse {
    let Compaction { volumes_done, volumes, events_removed, bytes_before, bytes_after } = state;
    pb::CompactStoreResponse {
        volumes_done,
        volumes,
        events_removed,
        bytes_before,
        bytes_after,
        done,
    }
}
