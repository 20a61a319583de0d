//! A client on one connection, with calls as tests want them.

use milepost::grpc::pb::{
    self, admin_service_client::AdminServiceClient, dataset_service_client::DatasetServiceClient,
    event_definition_service_client::EventDefinitionServiceClient,
    event_service_client::EventServiceClient, identity_service_client::IdentityServiceClient,
    schema_service_client::SchemaServiceClient,
    subscription_service_client::SubscriptionServiceClient,
};
use tonic::{Status, Streaming, transport::Channel};

/// Above the server's own bound, so that the server's bound is the one that is met.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The condition that an identity's last event is at a position; 0: that it has none.
pub(crate) fn expected_last(namespace: &str, id: &str, position: u64) -> pb::Condition {
    use pb::{condition::Condition, expected_last_position::Expected};
    let identity = identity_of(namespace, id);
    let expected = pb::ExpectedLastPosition {
        identity: Some(identity),
        expected: Some(Expected::Position(position)),
        ..Default::default()
    };
    pb::Condition { condition: Some(Condition::ExpectedLastPosition(expected)) }
}

/// One connection to a server.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) admin: AdminServiceClient<Channel>,
    pub(crate) datasets: DatasetServiceClient<Channel>,
    pub(crate) definitions: EventDefinitionServiceClient<Channel>,
    pub(crate) events: EventServiceClient<Channel>,
    pub(crate) identities: IdentityServiceClient<Channel>,
    pub(crate) schemas: SchemaServiceClient<Channel>,
    pub(crate) subscriptions: SubscriptionServiceClient<Channel>,
    pub(crate) channel: Channel,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// A connection, if somebody takes it.
    pub(crate) async fn try_connect(address: &str) -> Result<Self, tonic::transport::Error> {
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await?;
        let events = EventServiceClient::new(channel.clone());
        Ok(Self {
            admin: AdminServiceClient::new(channel.clone()),
            datasets: DatasetServiceClient::new(channel.clone()),
            definitions: EventDefinitionServiceClient::new(channel.clone()),
            events: events
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            identities: IdentityServiceClient::new(channel.clone()),
            schemas: SchemaServiceClient::new(channel.clone())
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            subscriptions: SubscriptionServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            channel,
        })
    }

    pub(crate) async fn register(
        &self,
        document: impl Into<String>,
    ) -> Result<pb::RegisterSchemaResponse, Status> {
        let request = pb::RegisterSchemaRequest { document: document.into(), ..Default::default() };
        Ok(self.schemas.clone().register_schema(request).await?.into_inner())
    }

    pub(crate) async fn create(&self, name: &str, schema_id: &str) -> Result<pb::Dataset, Status> {
        let dataset =
            pb::Dataset { name: name.into(), schema_id: schema_id.into(), ..Default::default() };
        self.create_dataset(dataset).await
    }

    pub(crate) async fn create_dataset(&self, dataset: pb::Dataset) -> Result<pb::Dataset, Status> {
        let request = pb::CreateDatasetRequest { dataset: Some(dataset), ..Default::default() };
        let response = self.datasets.clone().create_dataset(request).await?;
        Ok(response.into_inner().dataset.unwrap())
    }

    pub(crate) async fn dataset(&self, name: &str) -> Result<pb::Dataset, Status> {
        let request = pb::GetDatasetRequest { name: name.into() };
        let response = self.datasets.clone().get_dataset(request).await?;
        Ok(response.into_inner().dataset.unwrap())
    }

    /// Removes a dataset's events before a position.
    pub(crate) async fn trim(
        &self,
        name: &str,
        before: u64,
    ) -> Result<pb::TrimDatasetResponse, Status> {
        let before = Some(pb::trim_dataset_request::Before::BeforePosition(before));
        let request = pb::TrimDatasetRequest { name: name.into(), before, ..Default::default() };
        Ok(self.datasets.clone().trim_dataset(request).await?.into_inner())
    }

    /// Compacts the store; what the server said last.
    pub(crate) async fn compact(&self) -> Result<pb::CompactStoreResponse, Status> {
        let request = pb::CompactStoreRequest {};
        let mut steps = self.admin.clone().compact_store(request).await?.into_inner();
        let mut last = pb::CompactStoreResponse::default();
        while let Some(step) = steps.message().await? {
            last = step;
        }
        assert!(last.done, "a compaction that ends well is done: {last:?}");
        Ok(last)
    }

    /// Verifies the store, which must be sound.
    pub(crate) async fn verify(&self) -> Result<(), Status> {
        use pb::verify_store_response::Message;
        let request = pb::VerifyStoreRequest {};
        let mut messages = self.admin.clone().verify_store(request).await?.into_inner();
        let (mut findings, mut summary) = (Vec::new(), None);
        while let Some(message) = messages.message().await? {
            match message.message.unwrap() {
                Message::Progress(_) => {}
                Message::Finding(finding) => findings.push(finding),
                Message::Summary(last) => summary = Some(last),
            }
        }
        let summary = summary.expect("a verification that ends well has a summary");
        assert!(findings.is_empty() && summary.findings == 0, "{findings:#?} {summary:?}");
        assert_eq!(summary.position, summary.last_position, "{summary:?}");
        Ok(())
    }

    /// Appends payloads to a dataset, all or none.
    pub(crate) async fn append<T: AsRef<str>>(
        &self,
        dataset: &str,
        payloads: &[T],
    ) -> Result<pb::AppendEventsResponse, Status> {
        self.append_request(request(dataset, payloads)).await
    }

    /// Appends payloads to a dataset, each by itself.
    pub(crate) async fn append_each<T: AsRef<str>>(
        &self,
        dataset: &str,
        payloads: &[T],
    ) -> Result<pb::AppendEventsResponse, Status> {
        let mut request = request(dataset, payloads);
        request.set_mode(pb::AppendMode::PerEvent);
        self.append_request(request).await
    }

    pub(crate) async fn append_request(
        &self,
        request: pb::AppendEventsRequest,
    ) -> Result<pb::AppendEventsResponse, Status> {
        Ok(self.events.clone().append_events(request).await?.into_inner())
    }

    /// Reads to the end.
    pub(crate) async fn read(
        &self,
        request: pb::ReadEventsRequest,
    ) -> Result<Vec<pb::RecordedEvent>, Status> {
        Ok(self.read_scanned(request).await?.0)
    }

    /// Reads to the end; also tells how far the server has looked.
    pub(crate) async fn read_scanned(
        &self,
        request: pb::ReadEventsRequest,
    ) -> Result<(Vec<pb::RecordedEvent>, u64), Status> {
        let mut pages = self.events.clone().read_events(request).await?.into_inner();
        let (mut events, mut scanned_to) = (Vec::new(), 0);
        while let Some(page) = pages.message().await? {
            events.extend(page.events);
            scanned_to = page.scanned_to;
        }
        Ok((events, scanned_to))
    }

    pub(crate) async fn read_all(&self) -> Vec<pb::RecordedEvent> {
        self.read(pb::ReadEventsRequest::default()).await.unwrap()
    }

    pub(crate) async fn count(&self, filter: pb::EventFilter) -> Result<u64, Status> {
        let request = pb::CountEventsRequest { filter: Some(filter) };
        Ok(self.events.clone().count_events(request).await?.into_inner().count)
    }

    pub(crate) async fn get(&self, position: u64) -> Result<pb::RecordedEvent, Status> {
        let request = pb::GetEventRequest {
            key: Some(pb::get_event_request::Key::Position(position)),
            ..Default::default()
        };
        Ok(self.events.clone().get_event(request).await?.into_inner().event.unwrap())
    }

    pub(crate) async fn follow(
        &self,
        request: pb::FollowEventsRequest,
    ) -> Result<Streaming<pb::FollowEventsResponse>, Status> {
        Ok(self.events.clone().follow_events(request).await?.into_inner())
    }

    pub(crate) async fn status(&self) -> Result<pb::GetStatusResponse, Status> {
        let request = pb::GetStatusRequest::default();
        Ok(self.admin.clone().get_status(request).await?.into_inner())
    }

    pub(crate) async fn last_position(&self) -> u64 {
        self.status().await.unwrap().last_position
    }
}

/// An append of JSON payloads, all or none.
pub(crate) fn request<T: AsRef<str>>(dataset: &str, payloads: &[T]) -> pb::AppendEventsRequest {
    pb::AppendEventsRequest {
        dataset: dataset.into(),
        events: payloads.iter().map(|it| json_event(it.as_ref())).collect(),
        ..Default::default()
    }
}

/// An event from JSON text.
pub(crate) fn json_event(payload: &str) -> pb::Event {
    pb::Event { payload: Some(pb::event::Payload::Json(payload.to_owned().into())) }
}

/// The JSON text of a recorded event.
pub(crate) fn json_of(event: &pb::RecordedEvent) -> &str {
    match event.event.as_ref().and_then(|it| it.payload.as_ref()) {
        Some(pb::event::Payload::Json(json)) => str::from_utf8(json).unwrap(),
        other => panic!("position {}: payload is {other:?}", event.position),
    }
}

/// An identity.
pub(crate) fn identity_of(namespace: &str, id: &str) -> pb::Identity {
    let (namespace, id) = (namespace.to_owned().into(), id.to_owned().into());
    pb::Identity { namespace, id, primary: false }
}

/// Text that the generated code has as bytes.
#[track_caller]
pub(crate) fn string_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A filter by identity.
pub(crate) fn by_identity(namespace: &str, id: &str) -> pb::EventFilter {
    let identity = identity_of(namespace, id);
    pb::EventFilter { identities: vec![identity], ..Default::default() }
}

/// A filter by event type.
pub(crate) fn by_type(event_type: &str) -> pb::EventFilter {
    pb::EventFilter { event_types: vec![event_type.into()], ..Default::default() }
}

/// A filter by dataset.
pub(crate) fn by_dataset(name: &str) -> pb::EventFilter {
    pb::EventFilter { datasets: vec![name.into()], ..Default::default() }
}

/// A read of everything that a filter selects.
pub(crate) fn reading(filter: pb::EventFilter) -> pb::ReadEventsRequest {
    pb::ReadEventsRequest { filter: Some(filter), ..Default::default() }
}
