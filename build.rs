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
const API_TEXTS: &[&str] = &[
    ".milepost.v1.Event.json",
    ".milepost.v1.RecordedEvent.event_id",
    ".milepost.v1.RecordedEvent.event_type",
    ".milepost.v1.Identity.namespace",
    ".milepost.v1.Identity.id",
];
const STORAGE_TEXTS: &[&str] = &[
    ".milepost.storage.v1.EventRecord.event_id",
    ".milepost.storage.v1.EventRecord.event_type",
    ".milepost.storage.v1.IdentityRecord.namespace",
    ".milepost.storage.v1.IdentityRecord.id",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut api = compiler()?;
    api.open_files(API)?;
    fs::write(out.join("api.bin"), api.encode_file_descriptor_set())?;
    let mut files = api.file_descriptor_set();
    text_as_bytes(&mut files, API_TEXTS);
    let generator = tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .codec_path("crate::grpc::codec::Codec");
    API_TEXTS.iter().fold(generator, Builder::bytes).compile_fds(files)?;

    let mut bench = compiler()?;
    bench.open_files(BENCH)?;
    tonic_prost_build::configure()
        .bytes(".milepost.bench.v1.EchoRequest.payloads")
        .compile_fds(bench.file_descriptor_set())?;

    let mut storage = compiler()?;
    storage.open_files(STORAGE)?;
    let mut files = storage.file_descriptor_set();
    text_as_bytes(&mut files, STORAGE_TEXTS);
    let generator = tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".milepost.storage.v1.EventRecord.payload")
        .bytes(".milepost.storage.v1.QuarantineRecord.payload");
    STORAGE_TEXTS.iter().fold(generator, Builder::bytes).compile_fds(files)?;
    Ok(())
}

/// Makes the generated code take some text for bytes, which are the same on the wire: prost copies and
/// checks a `string` each time a message is read, but lets bytes be a part of the message.
fn text_as_bytes(files: &mut FileDescriptorSet, texts: &[&str]) {
    for file in &mut files.file {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            let name = message.name().to_owned();
            for field in &mut message.field {
                if texts.contains(&format!(".{package}.{name}.{}", field.name()).as_str()) {
                    field.set_type(Type::Bytes);
                }
            }
        }
    }
}

fn compiler() -> Result<protox::Compiler, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    Ok(compiler)
}
