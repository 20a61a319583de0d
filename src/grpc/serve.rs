//! Puts the services on one listener.

use std::{future::Future, time::Duration};

use tokio::net::TcpListener;
use tonic::{
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    grpc::{
        admin_service::Admin,
        connections::Connections,
        dataset_service::Datasets,
        deadline::Deadlines,
        definition_service::EventDefinitions,
        event_service::Events,
        identity_service::Identities,
        intake::Intake,
        layer::CompleteErrors,
        pb::{
            self, admin_service_server::AdminServiceServer,
            dataset_service_server::DatasetServiceServer,
            event_definition_service_server::EventDefinitionServiceServer,
            event_service_server::EventServiceServer,
            identity_service_server::IdentityServiceServer,
            quarantine_service_server::QuarantineServiceServer,
            schema_service_server::SchemaServiceServer,
            subscription_service_server::SubscriptionServiceServer,
        },
        quarantine_service::Quarantine,
        schema_service::Schemas,
        subscription_service::SubscriptionsService,
    },
    model::limits,
    store::EventStore,
};

/// Pings on idle connections, so that a vanished client's streams end.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// What a stream may send ahead of its reader: a typical batch arrives in one go.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for all streams of a connection.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes of one request for health or reflection: a name.
const NAME_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How often health looks at the store.
const HEALTH_INTERVAL: Duration = Duration::from_millis(250);

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection service could not be built.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves the store until `shutdown` resolves. Then, in order: health turns `NOT_SERVING`, new calls
/// are refused, follows end with `SHUTDOWN`, calls under way finish. What is queued in the store is
/// the caller's to drain, with [`EventStore::close`].
///
/// # Errors
/// When the listener or the transport fails.
pub async fn serve(
    store: EventStore,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let watching = tokio::spawn(watch_health(store.clone(), health.clone()));

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            )
    };
    macro_rules! service {
        ($server:ident, $service:ident) => {
            $server::new($service { store: store.clone() })
                .max_decoding_message_size(limits::REQUEST_BYTES_MAX)
                .max_encoding_message_size(usize::MAX)
                .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
                .send_compressed(tonic::codec::CompressionEncoding::Gzip)
        };
    }
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::CONNECTION_STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        // From the outside in.
        .layer(Deadlines)
        .layer(Intake::new(store.queue_bytes_max()))
        .layer(CompleteErrors)
        .add_service(service!(EventServiceServer, Events))
        .add_service(service!(SchemaServiceServer, Schemas))
        .add_service(service!(DatasetServiceServer, Datasets))
        .add_service(service!(IdentityServiceServer, Identities))
        .add_service(service!(QuarantineServiceServer, Quarantine))
        .add_service(service!(EventDefinitionServiceServer, EventDefinitions))
        .add_service(service!(SubscriptionServiceServer, SubscriptionsService))
        .add_service(service!(AdminServiceServer, Admin))
        .add_service(health_service.max_decoding_message_size(NAME_REQUEST_BYTES_MAX))
        .add_service(reflection().build_v1()?.max_decoding_message_size(NAME_REQUEST_BYTES_MAX))
        .add_service(
            reflection().build_v1alpha()?.max_decoding_message_size(NAME_REQUEST_BYTES_MAX),
        );

    let closing = async {
        shutdown.await;
        report(&health, ServingStatus::NotServing).await;
        store.start_closing();
    };
    // Without it the kernel holds back the last segment of an answer for 40 ms.
    let incoming = Connections::new(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let served = router.serve_with_incoming_shutdown(incoming, closing).await;
    watching.abort();
    Ok(served?)
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    let names = [
        "",
        QuarantineServiceServer::<Quarantine>::NAME,
        EventServiceServer::<Events>::NAME,
        SchemaServiceServer::<Schemas>::NAME,
        DatasetServiceServer::<Datasets>::NAME,
        IdentityServiceServer::<Identities>::NAME,
        EventDefinitionServiceServer::<EventDefinitions>::NAME,
        SubscriptionServiceServer::<SubscriptionsService>::NAME,
        AdminServiceServer::<Admin>::NAME,
    ];
    for name in names {
        health.set_service_status(name, status).await;
    }
}

/// A poisoned store is not healthy, though reads go on.
async fn watch_health(store: EventStore, health: HealthReporter) {
    let mut interval = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        interval.tick().await;
        if store.is_poisoned() {
            report(&health, ServingStatus::NotServing).await;
            return;
        }
    }
}
