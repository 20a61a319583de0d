//! `milepost.v1.AdminService`: converts, calls, converts.

use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        pb::{self, admin_service_server::AdminService},
        to_proto::timestamp,
    },
    model::limits,
    store::{EventStore, FORMAT_VERSION},
};

pub(crate) struct Admin {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        Ok(Response::new(pb::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_epoch: self.store.epoch().to_string(),
            format_version: FORMAT_VERSION,
            start_time: Some(timestamp(self.store.start_time())),
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
            disk_free_bytes: status.disk_free_bytes,
            disk_reserve_bytes: status.disk_reserve_bytes,
            index: Some(pb::IndexStatus {
                segments: status.index_segments,
                checkpoint: status.index_checkpoint.get(),
                tail_events: status.index_tail_events,
            }),
        }))
    }
}
