//! `milepost.v1.QuarantineService`: converts, calls, converts.

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        from_proto::{self, PageRequest},
        pb::{self, quarantine_service_server::QuarantineService},
        responses::Responses,
        status::event_status,
        to_proto,
    },
    model::{Invalid, limits, shorten},
    store::{
        Error, EventProblem, EventStore, FaultClass, FixedGroup, QuarantineGroup,
        QuarantineSelection, Quarantined, Replay, ReplayProgress, ReplayRun, parse_id, show_id,
    },
};

pub(crate) struct Quarantine {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl QuarantineService for Quarantine {
    type ReplayQuarantinedStream = Responses<pb::ReplayQuarantinedResponse>;

    async fn list_quarantined(
        &self,
        request: Request<pb::ListQuarantinedRequest>,
    ) -> Result<Response<pb::ListQuarantinedResponse>, Status> {
        let request = request.into_inner();
        let message = request.selection.unwrap_or_default();
        let view = from_proto::enumeration("view", request.view)?;
        let scope = format!(
            "quarantined {} {} {} {:?}",
            request.view, message.dataset, message.fingerprint, message.ids
        );
        let page = PageRequest::parse(request.page_size, &request.page_token, &scope)?;
        let selection = selection(message)?;
        let (after, size) = (page.after_bytes()?, page.size());
        let mut response = pb::ListQuarantinedResponse::default();
        let next = match view {
            pb::QuarantineView::Unspecified | pb::QuarantineView::Groups => {
                if !selection.ids.is_empty() {
                    return Err(Error::invalid("selection.ids", "set with GROUPS").into());
                }
                let (groups, next) = self.store.quarantine_groups(selection, after, size).await?;
                response.groups = groups.into_iter().map(group).collect();
                next
            }
            pb::QuarantineView::Events => {
                let (events, next) = self.store.quarantined(selection, after, size).await?;
                response.events = events.into_iter().map(event).collect();
                next
            }
        };
        response.next_page_token = page.token_after_bytes(next.as_deref());
        Ok(Response::new(response))
    }

    async fn get_quarantined(
        &self,
        request: Request<pb::GetQuarantinedRequest>,
    ) -> Result<Response<pb::GetQuarantinedResponse>, Status> {
        let id = id("quarantine_id", &request.into_inner().quarantine_id)?;
        let found = self.store.quarantined_event(id).await?;
        Ok(Response::new(pb::GetQuarantinedResponse { event: Some(event(found)) }))
    }

    async fn replay_quarantined(
        &self,
        request: Request<pb::ReplayQuarantinedRequest>,
    ) -> Result<Response<Self::ReplayQuarantinedStream>, Status> {
        let request = request.into_inner();
        let selection = selection(request.selection.unwrap_or_default())?;
        let replay = Replay { selection, patch: request.patch, dry_run: request.dry_run };
        let place = self.store.reader_place()?;
        let run = self.store.replay_quarantined(replay)?;
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(tell(run, out));
        Ok(Response::new(Responses::new(None, Some(responses), place)))
    }

    async fn discard_quarantined(
        &self,
        request: Request<pb::DiscardQuarantinedRequest>,
    ) -> Result<Response<pb::DiscardQuarantinedResponse>, Status> {
        let selection = selection(request.into_inner().selection.unwrap_or_default())?;
        let discarded = self.store.discard_quarantined(selection).await?;
        Ok(Response::new(pb::DiscardQuarantinedResponse { discarded }))
    }
}

/// Carries out a replay until it ends, fails, or the client leaves.
async fn tell(
    mut run: ReplayRun,
    out: mpsc::Sender<Result<pb::ReplayQuarantinedResponse, Status>>,
) {
    loop {
        let next = run.next().await.map(|it| it.map(progress));
        let response = match next {
            Ok(Some(progress)) => Ok(progress),
            Ok(None) => Ok(last(run.progress())),
            Err(error) => Err(error.into()),
        };
        let ends = response.as_ref().map_or(true, |it| it.done);
        if out.send(response).await.is_err() || ends {
            return;
        }
    }
}

fn progress(progress: &ReplayProgress) -> pb::ReplayQuarantinedResponse {
    let ReplayProgress { stored, duplicates, refused, gone, .. } = *progress;
    let (still_refused, done) = (Vec::new(), false);
    pb::ReplayQuarantinedResponse { stored, duplicates, refused, gone, still_refused, done }
}

fn last(found: &ReplayProgress) -> pb::ReplayQuarantinedResponse {
    let refused = found.still_refused.iter().map(|it| pb::StillRefused {
        quarantine_id: show_id(it.id),
        error: Some(event_status(EventProblem {
            index: 0,
            event_id: String::new(),
            fault: it.fault.clone(),
        })),
    });
    let still_refused = refused.collect();
    pb::ReplayQuarantinedResponse { still_refused, done: true, ..progress(found) }
}

fn selection(message: pb::QuarantineSelection) -> Result<QuarantineSelection, Error> {
    let pb::QuarantineSelection { dataset, fingerprint, ids } = message;
    let (found, most) = (ids.len(), limits::FILTER_VALUES_MAX);
    if found > most {
        let message = format!("{found} values; at most {most}");
        return Err(Error::OutOfBounds(Invalid::new("selection.ids", message)));
    }
    let ids = (0..).zip(&ids).map(|(at, text)| id(&format!("selection.ids[{at}]"), text));
    let ids = ids.collect::<Result<_, _>>()?;
    let fingerprint = if fingerprint.is_empty() {
        None
    } else {
        let parsed = u64::from_str_radix(&fingerprint, 16).ok().filter(|_| fingerprint.len() == 16);
        let message = format!("`{}`; wanted 16 hexadecimal digits", shorten(&fingerprint));
        Some(parsed.ok_or_else(|| Error::invalid("selection.fingerprint", message))?)
    };
    Ok(QuarantineSelection { dataset, fingerprint, ids })
}

fn id(field: &str, text: &str) -> Result<u64, Error> {
    let message = || format!("`{}`; wanted a quarantine id such as `q42`", shorten(text));
    parse_id(text).ok_or_else(|| Error::invalid(field, message()))
}

fn show_fingerprint(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

fn group(group: QuarantineGroup) -> pb::QuarantineGroup {
    pb::QuarantineGroup {
        dataset: group.dataset.name.to_string(),
        fingerprint: show_fingerprint(group.fingerprint),
        class: class(group.class).into(),
        violation: Some(to_proto::violation(group.violation)),
        count: group.count,
        first_time: Some(to_proto::timestamp(group.first_time)),
        last_time: Some(to_proto::timestamp(group.last_time)),
        samples: group.samples.into_iter().map(show_id).collect(),
    }
}

fn event(event: Quarantined) -> pb::QuarantinedEvent {
    let (schema_id, schema_version) = event.schema;
    pb::QuarantinedEvent {
        quarantine_id: show_id(event.id),
        dataset: event.dataset.name.to_string(),
        class: class(event.class).into(),
        fingerprint: show_fingerprint(event.fingerprint),
        event_id: event.event_id,
        schema_id: schema_id.to_string(),
        schema_version,
        receive_time: Some(to_proto::timestamp(event.receive_time)),
        last_receive_time: Some(to_proto::timestamp(event.last_receive_time)),
        times_received: event.times_received,
        violations: event.violations.into_iter().map(to_proto::violation).collect(),
        payload: event.payload.to_vec(),
    }
}

pub(crate) fn fixed(fixed: FixedGroup) -> pb::FixedQuarantine {
    let FixedGroup { group, stored, refused } = fixed;
    pb::FixedQuarantine {
        dataset: group.dataset.name.to_string(),
        fingerprint: show_fingerprint(group.fingerprint),
        count: group.count,
        stored,
        refused,
    }
}

fn class(class: FaultClass) -> pb::FaultClass {
    match class {
        FaultClass::Decode => pb::FaultClass::Decode,
        FaultClass::Size => pb::FaultClass::Size,
        FaultClass::Depth => pb::FaultClass::Depth,
        FaultClass::Envelope => pb::FaultClass::Envelope,
        FaultClass::SchemaViolation => pb::FaultClass::SchemaViolation,
        FaultClass::IdentityMissing => pb::FaultClass::IdentityMissing,
        FaultClass::IdentityInvalid => pb::FaultClass::IdentityInvalid,
        FaultClass::IdConflict => pb::FaultClass::IdConflict,
        FaultClass::TimeOutOfRange => pb::FaultClass::TimeOutOfRange,
    }
}
