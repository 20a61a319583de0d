//! Compiles the protocol buffers with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost_reflect::prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use tonic_prost_build::Builder;

/// The public API: served by reflection, so all of it goes into one descriptor set.
const API: &[&str] = &[
    "milepost/v1/admin_service.proto",
    "milepost/v1/dataset_service.proto",
    "milepost/v1/descriptor.proto",
    "milepost/v1/error_reason.proto",
    "milepost/v1/event.proto",
    "milepost/v1/event_definition_service.proto",
    "milepost/v1/event_service.proto",
    "milepost/v1/identity_service.proto",
    "milepost/v1/quarantine_service.proto",
    "milepost/v1/schema_service.proto",
    "milepost/v1/subscription_service.proto",
];

/// What `milepost bench` measures the transport with: never part of the reflection set.
const BENCH: &[&str] = &["milepost/bench/v1/echo.proto"];

/// What is on disk: never part of the reflection set.
const STORAGE: &[&str] = &[
    "milepost/storage/v1/catalog.proto",
    "milepost/storage/v1/quarantine.proto",
    "milepost/storage/v1/record.proto",
    "milepost/storage/v1/subscription.proto",
];

/// What is text to everybody else, of messages of which there is one for each event or more.
const API_TEXTS: &[(&str, &[&str])] = &[
    ("Event", &["json"]),
    ("RecordedEvent", &["event_id", "event_type"]),
    ("Identity", &["namespace", "id"]),
];
const STORAGE_TEXTS: &[(&str, &[&str])] =
    &[("EventRecord", &["event_id", "event_type"]), ("IdentityRecord", &["namespace", "id"])];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut api = compiler()?;
    api.open_files(API)?;
    fs::write(out.join("api.bin"), api.encode_file_descriptor_set())?;
    let mut files = api.file_descriptor_set();
    let texts = text_as_bytes(&mut files, API_TEXTS);
    let generator = tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .codec_path("crate::grpc::codec::Codec");
    texts.iter().fold(generator, Builder::bytes).compile_fds(files)?;

    let mut bench = compiler()?;
    bench.open_files(BENCH)?;
    tonic_prost_build::configure()
        .bytes(".milepost.bench.v1.EchoRequest.payloads")
        .compile_fds(bench.file_descriptor_set())?;

    let mut storage = compiler()?;
    storage.open_files(STORAGE)?;
    let mut files = storage.file_descriptor_set();
    let texts = text_as_bytes(&mut files, STORAGE_TEXTS);
    let generator = tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".milepost.storage.v1.EventRecord.payload")
        .bytes(".milepost.storage.v1.QuarantineRecord.payload");
    texts.iter().fold(generator, Builder::bytes).compile_fds(files)?;
    Ok(())
}

/// Makes the generated code take some text for bytes, which are the same on the wire: prost copies and
/// checks a `string` each time a message is read, but lets bytes be a part of the message. The full names of
/// those fields.
fn text_as_bytes(files: &mut FileDescriptorSet, fields: &[(&str, &[&str])]) -> Vec<String> {
    let mut made = Vec::new();
    for file in &mut files.file {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            let name = message.name().to_owned();
            let of_message = fields.iter().filter(|it| it.0 == name).flat_map(|it| it.1);
            for wanted in of_message {
                for field in message.field.iter_mut().filter(|it| it.name() == *wanted) {
                    field.set_type(Type::Bytes);
                    made.push(format!(".{package}.{name}.{wanted}"));
                }
            }
        }
    }
    made
}

fn compiler() -> Result<protox::Compiler, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    Ok(compiler)
}
