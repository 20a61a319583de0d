//! `milepost namespace`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::Done,
        lists,
        output::{self, Output},
        time,
    },
    grpc::pb,
};

/// Identity namespaces: what kind of thing an identity's id is.
#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Create a namespace; one with the same settings is left as it is
    Create(CreateArgs),
    /// Show one namespace
    Get(GetArgs),
    /// List namespaces by code
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// 1 to 64 letters, digits, `_` and `-`
    code: String,
    /// What an identity of the namespace identifies
    #[arg(long = "type", value_enum)]
    kind: Kind,
    /// For people; at most 256 bytes; the code unless given
    #[arg(long, value_name = "TEXT", default_value = "")]
    display_name: String,
    /// For people; at most 1024 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Check everything and create nothing
    #[arg(long)]
    validate_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A browser
    Cookie,
    /// A person across devices, for example a customer number
    CrossDevice,
    /// A device
    Device,
    Email,
    Phone,
    /// Not a person: a product, a shop, an organisation
    NonPeople,
    /// A partner's id for a person
    Partner,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The namespace's code
    code: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

impl NamespaceCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Create(args) => &args.client,
            Self::Get(args) => &args.client,
            Self::List(args) => &args.client,
        }
    }
}

pub(crate) async fn run(command: NamespaceCommand) -> Done {
    match command {
        NamespaceCommand::Create(args) => create(args).await,
        NamespaceCommand::Get(args) => get(args).await,
        NamespaceCommand::List(args) => list(args).await,
    }
}

async fn create(args: CreateArgs) -> Done {
    let kind = match args.kind {
        Kind::Cookie => pb::NamespaceType::Cookie,
        Kind::CrossDevice => pb::NamespaceType::CrossDevice,
        Kind::Device => pb::NamespaceType::Device,
        Kind::Email => pb::NamespaceType::Email,
        Kind::Phone => pb::NamespaceType::Phone,
        Kind::NonPeople => pb::NamespaceType::NonPeople,
        Kind::Partner => pb::NamespaceType::Partner,
    };
    let namespace = pb::Namespace {
        code: args.code,
        r#type: kind.into(),
        display_name: args.display_name,
        description: args.description,
        ..Default::default()
    };
    let request = pb::CreateNamespaceRequest {
        namespace: Some(namespace),
        validate_only: args.validate_only,
    };
    let mut identities = args.client.connect().await?.identities();
    let response = identities.create_namespace(request).await?.into_inner();
    show(&args.client, response.namespace)
}

async fn get(args: GetArgs) -> Done {
    let mut identities = args.client.connect().await?.identities();
    let request = pb::GetNamespaceRequest { code: args.code };
    let response = identities.get_namespace(request).await?.into_inner();
    show(&args.client, response.namespace)
}

async fn list(args: ListArgs) -> Done {
    let mut client = args.client.connect().await?.identities();
    let namespaces = lists::all(async |page_token| {
        let request = pb::ListNamespacesRequest { page_size: lists::PAGE_SIZE, page_token };
        let page = client.list_namespaces(request).await?.into_inner();
        Ok((page.namespaces, page.next_page_token))
    });
    let namespaces = namespaces.await?;
    let headings = ["CODE", "TYPE", "NAME", "BUILT IN"];
    let json = |it: &_| Ok(namespace_json(it));
    lists::print(args.client.output, &namespaces, json, &headings, |it| Ok(row(it)))
}

fn show(client: &ClientArgs, namespace: Option<pb::Namespace>) -> Done {
    let namespace = namespace.unwrap_or_default();
    let mut output = Output::new(client.output);
    output.show(&namespace_json(&namespace), || details(&namespace))?;
    output.flush()
}

fn row(namespace: &pb::Namespace) -> Vec<String> {
    let built_in = if namespace.built_in { "yes" } else { "" };
    vec![
        namespace.code.clone(),
        namespace.r#type().as_str_name().to_owned(),
        namespace.display_name.clone(),
        built_in.to_owned(),
    ]
}

fn details(namespace: &pb::Namespace) -> String {
    output::fields(&[
        ("code", namespace.code.clone()),
        ("type", namespace.r#type().as_str_name().to_owned()),
        ("name", namespace.display_name.clone()),
        ("description", namespace.description.clone()),
        ("built in", if namespace.built_in { "yes".into() } else { String::new() }),
        ("etag", namespace.etag.clone()),
        ("created", time::show(namespace.create_time.as_ref())),
        ("updated", time::show(namespace.update_time.as_ref())),
    ])
}

fn namespace_json(namespace: &pb::Namespace) -> Value {
    json!({
        "code": namespace.code,
        "type": namespace.r#type().as_str_name(),
        "display_name": namespace.display_name,
        "description": namespace.description,
        "built_in": namespace.built_in,
        "etag": namespace.etag,
        "create_time": time::show(namespace.create_time.as_ref()),
        "update_time": time::show(namespace.update_time.as_ref()),
    })
}
