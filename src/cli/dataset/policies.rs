//! The flags for what a dataset makes of payloads.

use clap::{Args, ValueEnum};

use crate::grpc::pb;

/// What is made of payloads.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is made of payloads")]
pub(crate) struct PolicyArgs {
    /// What becomes of keys that the schema does not describe
    #[arg(long, value_enum, value_name = "POLICY")]
    unknown_fields: Option<UnknownFields>,
    /// How the names of payloads are spelt; what is stored is always in wire form
    #[arg(long, value_enum, value_name = "FORM")]
    payload_form: Option<PayloadForm>,
    /// Whether numbers sent as text, and nulls, are mended; each mending is recorded with the event
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    lenient: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UnknownFields {
    /// Refused where the schema is closed
    AsSchema,
    /// Taken, also where the schema is closed
    Allow,
    /// Refused in every object that the schema describes
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PayloadForm {
    /// As events are sent: `timestamp`, `_id`
    Wire,
    /// As XDM is published: `xdm:timestamp`, `@id`; turned into wire form
    Long,
}

impl PolicyArgs {
    /// Sets what was given; the fields that were.
    pub(crate) fn set(&self, dataset: &mut pb::Dataset) -> Vec<&'static str> {
        let mut paths = Vec::new();
        if let Some(policy) = self.unknown_fields {
            dataset.set_unknown_fields(match policy {
                UnknownFields::AsSchema => pb::UnknownFields::AsSchema,
                UnknownFields::Allow => pb::UnknownFields::Allow,
                UnknownFields::Refuse => pb::UnknownFields::Refuse,
            });
            paths.push("unknown_fields");
        }
        if let Some(form) = self.payload_form {
            dataset.set_payload_form(match form {
                PayloadForm::Wire => pb::Form::Wire,
                PayloadForm::Long => pb::Form::Long,
            });
            paths.push("payload_form");
        }
        if let Some(lenient) = self.lenient {
            dataset.lenient = lenient;
            paths.push("lenient");
        }
        paths
    }
}

/// Empty for the default, as `payload_form`.
pub(crate) fn unknown_fields(dataset: &pb::Dataset) -> String {
    let policy = dataset.unknown_fields();
    let shown = (policy != pb::UnknownFields::AsSchema).then(|| policy.as_str_name().to_owned());
    shown.unwrap_or_default()
}

pub(crate) fn payload_form(dataset: &pb::Dataset) -> String {
    let form = dataset.payload_form();
    let shown = (form != pb::Form::Wire).then(|| form.as_str_name().to_owned());
    shown.unwrap_or_default()
}
