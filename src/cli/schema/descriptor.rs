//! `milepost schema descriptor`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::{ClientArgs, label},
        failure::{Done, Failure},
        lists,
        output::{self, Output},
        time,
    },
    grpc::{
        descriptors::from_message,
        pb::{self, descriptor::Kind},
    },
};

/// What is said about fields of schemas: identities, names, labels and the like.
#[derive(Debug, Subcommand)]
pub(crate) enum DescriptorCommand {
    /// Say something about a field; what says the same is left as it is
    Create(CreateArgs),
    /// Show one descriptor
    Get(IdArgs),
    /// List descriptors by schema, path and kind
    List(ListArgs),
    /// Take a descriptor back
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// `$id` of the schema
    #[arg(long, value_name = "ID")]
    schema: String,
    /// The field: a JSON Pointer into an event, such as `/commerce/order/purchaseID`
    #[arg(long)]
    path: String,
    /// Check everything and create nothing
    #[arg(long)]
    validate_only: bool,
    #[command(subcommand)]
    says: Says,
}

#[derive(Debug, Subcommand)]
enum Says {
    /// The field is an identity
    Identity {
        /// Code of the identity namespace
        #[arg(long, value_name = "CODE")]
        namespace: String,
        /// It is the primary identity: every event must have it
        #[arg(long)]
        primary: bool,
    },
    /// The field is the event's time
    Timestamp,
    /// The field orders the events about one thing
    Version,
    /// The field leads to things of another schema
    Relationship {
        /// `$id` of the other schema
        #[arg(long, value_name = "ID")]
        to: String,
        /// The field there; what identifies it unless given
        #[arg(long, value_name = "PATH", default_value = "")]
        to_path: String,
        /// Code of the identity namespace of the field there
        #[arg(long, value_name = "CODE", default_value = "")]
        namespace: String,
        /// How many lead to how many
        #[arg(long, value_enum, default_value = "one-to-one")]
        cardinality: Cardinality,
    },
    /// What the field is called for people
    FriendlyName {
        /// A title in a language; may be repeated
        #[arg(long = "title", value_name = "LANGUAGE=TEXT", value_parser = label)]
        titles: Vec<(String, String)>,
        /// A description in a language; may be repeated
        #[arg(long = "description", value_name = "LANGUAGE=TEXT", value_parser = label)]
        descriptions: Vec<(String, String)>,
    },
    /// How the field's data must be treated
    Label {
        /// Labels such as `I1` for what identifies a person
        #[arg(required = true)]
        labels: Vec<String>,
    },
    /// The field is not for new uses
    Deprecated {
        /// The field to use instead
        #[arg(long = "use", value_name = "PATH", default_value = "")]
        successor: String,
        /// For people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cardinality {
    OneToOne,
    OneToZero,
    ManyToOne,
    ManyToZero,
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The descriptor's id
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Only those of this schema, by its `$id`
    #[arg(long, value_name = "ID", default_value = "")]
    schema: String,
    /// Only this kind: `identity`, `label` and so on
    #[arg(long, default_value = "")]
    kind: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The descriptor's id
    id: String,
    /// Check everything and delete nothing
    #[arg(long)]
    validate_only: bool,
}

impl DescriptorCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(args) => &args.client,
            Self::Get(args) => &args.client,
            Self::List(args) => &args.client,
            Self::Delete(args) => &args.client,
        }
    }
}

pub(super) async fn run(command: DescriptorCommand) -> Done {
    match command {
        DescriptorCommand::Create(args) => create(args).await,
        DescriptorCommand::Get(args) => get(args).await,
        DescriptorCommand::List(args) => list(args).await,
        DescriptorCommand::Delete(args) => delete(args).await,
    }
}

impl Says {
    fn kind(self) -> Kind {
        match self {
            Self::Identity { namespace, primary } => {
                Kind::Identity(pb::IdentityDescriptor { namespace, primary })
            }
            Self::Timestamp => Kind::Timestamp(pb::TimestampDescriptor {}),
            Self::Version => Kind::Version(pb::VersionDescriptor {}),
            Self::Relationship { to, to_path, namespace, cardinality } => {
                let cardinality = match cardinality {
                    Cardinality::OneToOne => pb::Cardinality::OneToOne,
                    Cardinality::OneToZero => pb::Cardinality::OneToZero,
                    Cardinality::ManyToOne => pb::Cardinality::ManyToOne,
                    Cardinality::ManyToZero => pb::Cardinality::ManyToZero,
                };
                Kind::Relationship(pb::RelationshipDescriptor {
                    destination_schema_id: to,
                    destination_path: to_path,
                    destination_namespace: namespace,
                    cardinality: cardinality.into(),
                })
            }
            Self::FriendlyName { titles, descriptions } => {
                Kind::FriendlyName(pb::FriendlyNameDescriptor {
                    titles: titles.into_iter().collect(),
                    descriptions: descriptions.into_iter().collect(),
                })
            }
            Self::Label { labels } => Kind::Label(pb::LabelDescriptor { labels }),
            Self::Deprecated { successor, reason } => {
                Kind::Deprecated(pb::DeprecatedDescriptor { successor_path: successor, reason })
            }
        }
    }
}

async fn create(args: CreateArgs) -> Done {
    let mut schemas = args.client.connect().await?.schemas();
    let kind = Some(args.says.kind());
    let descriptor =
        pb::Descriptor { schema_id: args.schema, path: args.path, kind, ..Default::default() };
    let validate_only = args.validate_only;
    let request = pb::CreateDescriptorRequest { descriptor: Some(descriptor), validate_only };
    let response = schemas.create_descriptor(request).await?.into_inner();
    show(&args.client, &response.descriptor.unwrap_or_default())
}

async fn get(args: IdArgs) -> Done {
    let mut schemas = args.client.connect().await?.schemas();
    let request = pb::GetDescriptorRequest { id: args.id };
    let response = schemas.get_descriptor(request).await?.into_inner();
    show(&args.client, &response.descriptor.unwrap_or_default())
}

async fn list(args: ListArgs) -> Done {
    let mut schemas = args.client.connect().await?.schemas();
    let descriptors = lists::all(async |page_token| {
        let request = pb::ListDescriptorsRequest {
            page_size: lists::PAGE_SIZE,
            page_token,
            schema_id: args.schema.clone(),
            kind: args.kind.clone(),
        };
        let page = schemas.list_descriptors(request).await?.into_inner();
        Ok((page.descriptors, page.next_page_token))
    });
    let descriptors = descriptors.await?;
    let row = |it: &pb::Descriptor| {
        Ok(vec![it.id.clone(), it.schema_id.clone(), it.path.clone(), says(it)?])
    };
    let headings = ["ID", "SCHEMA", "PATH", "SAYS"];
    lists::print(args.client.output, &descriptors, descriptor_json, &headings, row)
}

async fn delete(args: DeleteArgs) -> Done {
    let mut schemas = args.client.connect().await?.schemas();
    let (id, validate_only) = (args.id.clone(), args.validate_only);
    schemas.delete_descriptor(pb::DeleteDescriptorRequest { id, validate_only }).await?;
    let done = if validate_only { "could be deleted" } else { "deleted" };
    let mut output = Output::new(args.client.output);
    let value = json!({ "id": args.id, "deleted": !validate_only });
    output.show(&value, || format!("descriptor {} {done}", args.id))?;
    output.flush()
}

fn show(client: &ClientArgs, descriptor: &pb::Descriptor) -> Done {
    let mut output = Output::new(client.output);
    let says = says(descriptor)?;
    let text = || {
        output::fields(&[
            ("id", descriptor.id.clone()),
            ("schema", descriptor.schema_id.clone()),
            ("path", descriptor.path.clone()),
            ("says", says),
            ("created", time::show(descriptor.create_time.as_ref())),
        ])
    };
    output.show(&descriptor_json(descriptor)?, text)?;
    output.flush()
}

/// The kind and what is said, in the words of XDM: `identity: namespace Email, isPrimary true`.
pub(super) fn says(descriptor: &pb::Descriptor) -> Result<String, Failure> {
    let read = read(descriptor)?;
    let xdm = read.to_xdm();
    let common =
        ["@type", "xdm:sourceSchema", "xdm:sourceVersion", "xdm:sourceProperty", "xdm:property"];
    let members = xdm.as_object().into_iter().flatten();
    let said = members.filter(|(key, _)| !common.contains(&key.as_str())).map(|(key, value)| {
        let key = key.rsplit(':').next().unwrap_or(key);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{key} {value}")
    });
    let said = said.collect::<Vec<_>>().join(", ");
    let kind = read.kind.name().replace('_', " ");
    Ok(if said.is_empty() { kind } else { format!("{kind}: {said}") })
}

/// The descriptor as XDM writes it, with its id.
fn descriptor_json(descriptor: &pb::Descriptor) -> Result<Value, Failure> {
    let mut value = read(descriptor)?.to_xdm();
    if let Some(members) = value.as_object_mut() {
        members.insert("@id".into(), descriptor.id.as_str().into());
    }
    Ok(value)
}

/// A descriptor as the server has sent it.
pub(super) fn read(message: &pb::Descriptor) -> Result<crate::schema::Descriptor, Failure> {
    from_message("descriptor", message.clone()).map_err(|error| Failure::Local(error.into()))
}
