//! A verification's news as messages.

use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    grpc::pb::{self, verify_store_response::Message},
    store::{EventStore, Finding, FindingKind, Verified, VerifyNews},
};

type Responses = mpsc::Sender<Result<pb::VerifyStoreResponse, Status>>;

/// Verifies, and sends the news until it is done, fails, or the client leaves.
pub(crate) async fn send(store: EventStore, out: Responses) {
    let (news, items) = mpsc::channel(1);
    let (verification, forwarded) = (store.verify(news), out.clone());
    let forward = async move {
        let mut items = items;
        while let Some(item) = items.recv().await {
            let message = match item {
                VerifyNews::Progress(state) => Message::Progress(state.into()),
                VerifyNews::Finding(finding) => Message::Finding(finding.into()),
            };
            // Dropping the receiver ends the verification.
            if forwarded.send(Ok(response(message))).await.is_err() {
                return;
            }
        }
    };
    let (done, ()) = tokio::join!(verification, forward);
    let last = done.map(|state| response(Message::Summary(state.into())));
    drop(out.send(last.map_err(Status::from)).await);
}

fn response(message: Message) -> pb::VerifyStoreResponse {
    pb::VerifyStoreResponse { message: Some(message) }
}

impl From<Verified> for pb::VerifyState {
    fn from(state: Verified) -> Self {
        Self {
            position: state.position.get(),
            last_position: state.last_position.get(),
            events: state.events,
            removed: state.removed,
            lost: state.lost,
            volumes: state.volumes,
            blocks: state.blocks,
            segments: state.segments,
            frames: state.frames,
            findings: state.findings,
        }
    }
}

impl From<Finding> for pb::VerifyFinding {
    fn from(finding: Finding) -> Self {
        let kind = match finding.kind {
            FindingKind::Directory => pb::VerifyFindingKind::Directory,
            FindingKind::Log => pb::VerifyFindingKind::Log,
            FindingKind::Record => pb::VerifyFindingKind::Record,
            FindingKind::Index => pb::VerifyFindingKind::Index,
            FindingKind::Journal => pb::VerifyFindingKind::Journal,
            FindingKind::Catalog => pb::VerifyFindingKind::Catalog,
            FindingKind::Table => pb::VerifyFindingKind::Table,
        };
        Self {
            kind: kind.into(),
            message: finding.message,
            volume: finding.volume.unwrap_or(0),
            block: finding.block.get(),
            first_position: finding.first.get(),
            last_position: finding.last.get(),
            segment: finding.segment.unwrap_or(0),
            term: finding.term,
            event_id: finding.event_id,
        }
    }
}
