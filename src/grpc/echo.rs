//! A server that takes what it gets and does nothing with it: what the transport alone allows.

use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    grpc::{
        pb::bench::{
            EchoRequest, EchoResponse,
            echo_service_server::{EchoService, EchoServiceServer},
        },
        serve::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, ServeError},
    },
    model::limits,
};

struct Echo;

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let count = request.into_inner().payloads.len() as u64;
        Ok(Response::new(EchoResponse { count }))
    }
}

/// Answers every call with the number of payloads it brought, over the transport that
/// [`serve`](crate::grpc::serve) has, until the process ends.
///
/// # Errors
/// When the listener or the transport fails.
pub async fn serve_echo(listener: TcpListener) -> Result<(), ServeError> {
    let service = EchoServiceServer::new(Echo).max_decoding_message_size(limits::REQUEST_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(service);
    Ok(router.serve_with_incoming(incoming).await?)
}
