//! The client's half: connections, and errors in words that need no tonic.

use std::{collections::BTreeMap, error::Error as _, fmt, time::Duration};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::{
    grpc::pb::{
        admin_service_client::AdminServiceClient, bench::echo_service_client::EchoServiceClient,
        dataset_service_client::DatasetServiceClient,
        event_definition_service_client::EventDefinitionServiceClient,
        event_service_client::EventServiceClient, identity_service_client::IdentityServiceClient,
        quarantine_service_client::QuarantineServiceClient,
        schema_service_client::SchemaServiceClient,
        subscription_service_client::SubscriptionServiceClient,
    },
    model::limits,
};

// The command line names the RPC crates' types through this module alone.
pub use prost_types as well_known;
pub use tonic::{Status as CallStatus, Streaming};

/// Calls to `AdminService`.
pub type AdminClient = AdminServiceClient<Channel>;
/// Calls to `DatasetService`.
pub type DatasetClient = DatasetServiceClient<Channel>;
/// Calls to the echo of `milepost bench`.
pub(crate) type EchoClient = EchoServiceClient<Channel>;
/// Calls to `EventDefinitionService`.
pub type EventDefinitionClient = EventDefinitionServiceClient<Channel>;
/// Calls to `EventService`.
pub type EventClient = EventServiceClient<Channel>;
/// Calls to `IdentityService`.
pub type IdentityClient = IdentityServiceClient<Channel>;
/// Calls to `QuarantineService`.
pub type QuarantineClient = QuarantineServiceClient<Channel>;
/// Calls to `SchemaService`.
pub type SchemaClient = SchemaServiceClient<Channel>;
/// Calls to `SubscriptionService`.
pub type SubscriptionClient = SubscriptionServiceClient<Channel>;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is tried this often; one that stays silent is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes the server may send ahead on one stream: a reader's pace is not the round trip's.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of headers: an error with a hundred violations travels in them.
const HEADERS_MAX: u32 = 1024 * 1024;
/// Bytes of one response. A page is at most one request's size, and a little more for positions.
const RESPONSE_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX * 2;

/// One connection to a server; clones share it. Reopens itself when it breaks.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    address: String,
}

impl Connection {
    /// Connects to `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers, `Address` when it is none.
    pub async fn open(server: &str) -> Result<Self, ConnectError> {
        let address = server.strip_prefix("http://").unwrap_or(server).trim_end_matches('/');
        let endpoint = endpoint(address).map_err(|cause| ConnectError::Address {
            server: server.to_owned(),
            cause: cause.to_string(),
        })?;
        let channel = endpoint.connect().await.map_err(|cause| ConnectError::Unreachable {
            server: address.to_owned(),
            cause: deepest(&cause),
        })?;
        Ok(Self { channel, address: address.to_owned() })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Calls to `AdminService`.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Calls to `DatasetService`.
    #[must_use]
    pub fn datasets(&self) -> DatasetClient {
        DatasetServiceClient::new(self.channel.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Calls to the echo of `milepost bench`.
    pub(crate) fn echo(&self) -> EchoClient {
        EchoServiceClient::new(self.channel.clone())
    }

    /// Calls to `EventDefinitionService`.
    #[must_use]
    pub fn event_definitions(&self) -> EventDefinitionClient {
        EventDefinitionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Calls to `EventService`.
    #[must_use]
    pub fn events(&self) -> EventClient {
        EventServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Calls to `IdentityService`.
    #[must_use]
    pub fn identities(&self) -> IdentityClient {
        IdentityServiceClient::new(self.channel.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Calls to `QuarantineService`.
    #[must_use]
    pub fn quarantine(&self) -> QuarantineClient {
        QuarantineServiceClient::new(self.channel.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Calls to `SchemaService`.
    #[must_use]
    pub fn schemas(&self) -> SchemaClient {
        SchemaServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Calls to `SubscriptionService`.
    #[must_use]
    pub fn subscriptions(&self) -> SubscriptionClient {
        SubscriptionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .user_agent(concat!("milepost-cli/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS_MAX);
    Ok(endpoint)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server's address is none.
    #[error("`{server}` is not an address such as `127.0.0.1:7373` ({cause})")]
    Address {
        /// As given.
        server: String,
        /// What was wrong.
        cause: String,
    },
    /// Nobody answers there.
    #[error("cannot reach a server at `{server}`: {cause}")]
    Unreachable {
        /// `host:port`.
        server: String,
        /// The system's words.
        cause: String,
    },
}

/// An error that a call ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The canonical code's name, for example `NOT_FOUND`.
    pub code: &'static str,
    /// The server's words.
    pub message: String,
    /// One of `ErrorReason`'s names; empty when the error is not Milepost's.
    pub reason: String,
    /// Facts about the reason.
    pub metadata: BTreeMap<String, String>,
    /// Every field at fault: path and description.
    pub violations: Vec<FieldViolation>,
    /// Wait at least this long before trying again.
    pub retry_after: Option<Duration>,
    /// Whether the connection failed, not the server.
    pub disconnected: bool,
}

/// A field of the request that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, for example `events[3].payload/commerce/order/priceTotal`.
    pub field: String,
    /// Found and wanted.
    pub description: String,
}

impl CallError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.disconnected
            || self.code == "UNAVAILABLE"
            || (self.code == "RESOURCE_EXHAUSTED" && self.retry_after.is_some())
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|it| it.field_violations.as_slice());
        Self {
            code: code_name(status.code()),
            message: message(&status),
            reason: info.map(|it| it.reason.clone()).unwrap_or_default(),
            metadata: info.map(|it| it.metadata.clone().into_iter().collect()).unwrap_or_default(),
            violations: violations
                .unwrap_or_default()
                .iter()
                .map(|it| FieldViolation {
                    field: it.field.clone(),
                    description: it.description.clone(),
                })
                .collect(),
            retry_after: details.retry_info().and_then(|it| it.retry_delay),
            // What the server itself answers has no source; a broken transport is one.
            disconnected: info.is_none() && status.source().is_some(),
        }
    }
}

/// An error inside a response, for example of one event in `PER_EVENT` mode.
impl From<tonic_types::pb::Status> for CallError {
    fn from(status: tonic_types::pb::Status) -> Self {
        let details = prost::Message::encode_to_vec(&status);
        Self::from(Status::with_details(Code::from(status.code), status.message, details.into()))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CallError {}

fn message(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), deepest(source)),
        None if status.message().is_empty() => format!("the call ended with {}", status.code()),
        None => status.message().to_owned(),
    }
}

/// The last cause's words: outer layers only say that something below failed.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
