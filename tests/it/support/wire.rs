//! A client that speaks HTTP/2 itself and does what no proper client does: it waits after its
//! deadline, sends slowly, and sends what is not one message.

use bytes::{Bytes, BytesMut};
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status};

/// One connection.
#[derive(Clone)]
pub(crate) struct Wire {
    send: SendRequest<Bytes>,
    address: String,
}

/// A call under way.
pub(crate) struct Call {
    answer: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

impl Wire {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            // It ends when the server or the test does.
            let _ = connection.await;
        });
        Self { send, address: address.to_owned() }
    }

    /// Begins a call, without a byte of its message.
    pub(crate) async fn begin(&self, path: &str, headers: &[(&str, &str)]) -> Call {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await.unwrap();
        let (answer, body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        Call { answer, body }
    }

    /// Calls a method with a timeout that only the server heeds.
    pub(crate) async fn call<T: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
        timeout: &str,
    ) -> Result<T, Status> {
        let mut call = self.begin(path, &[("grpc-timeout", timeout)]).await;
        // An answer may come before all is sent.
        let _ = call.body.send_data(framed(&message.encode_to_vec()), true);
        let body = call.answer().await?;
        Ok(T::decode(&body[5..]).unwrap())
    }
}

impl Call {
    /// The status of a call that the server ends before it has all of it.
    pub(crate) async fn ended(&mut self) -> Result<(), Status> {
        let head = (&mut self.answer).await.expect("an answer");
        failed(head.headers())
    }

    /// The bytes of the answer, or its status.
    pub(crate) async fn answer(self) -> Result<Bytes, Status> {
        let (head, mut body) = self.answer.await.expect("an answer").into_parts();
        failed(&head.headers)?;
        let mut bytes = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend_from_slice(&data);
        }
        failed(&body.trailers().await.unwrap().expect("trailers"))?;
        Ok(bytes.freeze())
    }
}

/// The status in headers or trailers, unless it is none or OK.
fn failed(headers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

/// A message with gRPC's prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}
