//! Bytes that are no requests.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::Bytes;
use milepost::grpc::pb;
use prost::Message as _;
use tonic::codec::CompressionEncoding;

use super::{MIB, serves};
use crate::support::{
    Server,
    client::{json_event, request},
    errors::expect,
    events::{purchase_text, purchases},
    raw,
};

#[tokio::test]
async fn bytes_that_are_no_request_are_refused() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let append = "/milepost.v1.EventService/AppendEvents";
    let event = |json: &[u8]| raw::field(2, &raw::field(1, json));
    let with_dataset = |dataset: &[u8], event: Vec<u8>| [raw::field(1, dataset), event].concat();
    let good = purchase_text("e", "a@b.c");
    let rows: Vec<(&'static str, Vec<u8>, &str)> = vec![
        (append, vec![0xff; 64], "REQUEST_MALFORMED"),
        (append, vec![0x0a, 0x7f], "REQUEST_MALFORMED"),
        (append, with_dataset(b"we\xff", event(good.as_bytes())), "REQUEST_MALFORMED"),
        (append, with_dataset(b"web", event(b"{\"_id\":\"\xff\"}")), "EVENT_INVALID"),
        (append, with_dataset(b"web", event(b"\xed\xa0\x80")), "EVENT_INVALID"),
        (append, vec![0; 16 * MIB + 1], "REQUEST_TOO_LARGE"),
        ("/milepost.v1.EventService/Append", vec![], "METHOD_UNKNOWN"),
        ("/milepost.v2.EventService/AppendEvents", vec![], "METHOD_UNKNOWN"),
        ("/nothing", vec![], "METHOD_UNKNOWN"),
        (
            "/milepost.v1.SchemaService/RegisterSchema",
            raw::field(1, b"\xc3\x28"),
            "REQUEST_MALFORMED",
        ),
        ("/milepost.v1.DatasetService/GetDataset", raw::field(1, b"\x80"), "REQUEST_MALFORMED"),
        ("/milepost.v1.EventService/CountEvents", vec![0x0a, 0x05, 0x0a], "REQUEST_MALFORMED"),
    ];
    for (path, body, reason) in rows {
        let shown = format!("{path} {:02x?}", &body[..body.len().min(32)]);
        eprintln!("{shown}");
        expect(raw::call(&client.channel, path, Bytes::from(body)).await, reason, &[]);
    }
    // An event that is not text spoils no other.
    let mixed = [
        with_dataset(b"web", event(b"{\"_id\":\"\xff\"}")),
        event(purchase_text("good", "a@b.c").as_bytes()),
        vec![3 << 3, 2], /* PER_EVENT */
    ];
    let answer = raw::call(&client.channel, append, Bytes::from(mixed.concat())).await.unwrap();
    let answer = pb::AppendEventsResponse::decode(answer).unwrap();
    let error = answer.results[0].error.as_ref().unwrap();
    assert!(error.message.contains("UTF-8 from byte 8"), "{error:?}");
    assert_eq!(answer.results[1].outcome(), pb::append_result::Outcome::Appended);
    // Unknown fields are not an error: a newer client may send them.
    let newer = [with_dataset(b"web", event(good.as_bytes())), raw::field(15, b"new")].concat();
    raw::call(&client.channel, append, Bytes::from(newer)).await.unwrap();
    assert_eq!(client.last_position().await, 2);

    // Small on the wire, large in memory.
    let mut squeezed = client.events.clone().send_compressed(CompressionEncoding::Gzip);
    let bomb = request("web", &["{".to_owned() + &" ".repeat(48 * MIB)]);
    expect(squeezed.append_events(bomb).await, "REQUEST_TOO_LARGE", &[]);
    serves(&server, &client, "after").await;
}

#[tokio::test]
async fn a_connection_that_does_not_speak_grpc_harms_nobody() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let openings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: milepost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 4096],
        b"",
    ];
    for (index, opening) in openings.into_iter().enumerate() {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(opening).unwrap();
        // Whatever it answers, and however it ends: it ends.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        serves(&server, &client, &format!("after-{index}")).await;
    }
}

#[test]
fn the_raw_fields_are_what_protobuf_writes() {
    let append = request("web", &["x".repeat(300)]);
    let bytes =
        [raw::field(1, b"web"), raw::field(2, &json_event(&"x".repeat(300)).encode_to_vec())];
    assert_eq!(bytes.concat(), append.encode_to_vec());
}
