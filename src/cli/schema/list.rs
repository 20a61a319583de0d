//! `milepost schema list` and `versions`.

use clap::{Args, ValueEnum};

use crate::{
    cli::{args::ClientArgs, failure::Done, lists, schema::schema_json, time},
    grpc::pb,
};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// With those that come with the server
    #[arg(long)]
    built_in: bool,
    /// Only schemas of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only schemas with this in their title or id, in whatever letter case
    #[arg(long, value_name = "TEXT", default_value = "")]
    text: String,
    /// Only schemas of this class, by its `$id`: the class itself, its schemas and field groups
    #[arg(long, value_name = "ID", default_value = "")]
    class: String,
    /// Which ones, by what was said of them
    #[arg(long, value_enum, default_value_t = Status::Active)]
    status: Status,
    /// What orders them
    #[arg(long, value_enum, default_value_t = Order::Id)]
    order_by: Order,
    /// In the reverse order
    #[arg(long)]
    desc: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Behavior,
    Class,
    FieldGroup,
    DataType,
    Schema,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Active,
    Deprecated,
    Any,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Id,
    Title,
    /// When the first version was registered
    CreateTime,
}

impl ListArgs {
    fn request(&self) -> pb::ListSchemasRequest {
        let kind = self.kind.map_or(pb::SchemaKind::Unspecified, |it| match it {
            Kind::Behavior => pb::SchemaKind::Behavior,
            Kind::Class => pb::SchemaKind::Class,
            Kind::FieldGroup => pb::SchemaKind::FieldGroup,
            Kind::DataType => pb::SchemaKind::DataType,
            Kind::Schema => pb::SchemaKind::Schema,
        });
        let status = match self.status {
            Status::Active => pb::SchemaStatus::Active,
            Status::Deprecated => pb::SchemaStatus::Deprecated,
            Status::Any => pb::SchemaStatus::Any,
        };
        let field = match self.order_by {
            Order::Id => "id",
            Order::Title => "title",
            Order::CreateTime => "create_time",
        };
        pb::ListSchemasRequest {
            page_size: lists::PAGE_SIZE,
            page_token: String::new(),
            kind: kind.into(),
            exclude_built_in: !self.built_in,
            text: self.text.clone(),
            class: self.class.clone(),
            status: status.into(),
            order_by: if self.desc { format!("{field} desc") } else { field.to_owned() },
        }
    }
}

pub(super) async fn run(args: ListArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let schemas = lists::all(async |page_token| {
        let request = pb::ListSchemasRequest { page_token, ..args.request() };
        let page = client.list_schemas(request).await?.into_inner();
        Ok((page.schemas, page.next_page_token))
    });
    let schemas = schemas.await?;
    let row = |schema: &pb::Schema| {
        Ok(vec![
            schema.kind().as_str_name().to_owned(),
            schema.version.to_string(),
            schema.id.clone(),
            schema.title.clone(),
        ])
    };
    let headings = ["KIND", "VERSION", "ID", "TITLE"];
    lists::print(args.client.output, &schemas, schema_json, &headings, row)
}

#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The schema's `$id`
    id: String,
}

pub(super) async fn versions(args: VersionsArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let schemas = lists::all(async |page_token| {
        let (id, page_size) = (args.id.clone(), lists::PAGE_SIZE);
        let request = pb::ListSchemaVersionsRequest { id, page_size, page_token };
        let page = client.list_schema_versions(request).await?.into_inner();
        Ok((page.schemas, page.next_page_token))
    });
    let schemas = schemas.await?;
    let row = |schema: &pb::Schema| {
        let created = time::show(schema.create_time.as_ref());
        Ok(vec![schema.version.to_string(), created, schema.digest.clone()])
    };
    let headings = ["VERSION", "CREATED", "DIGEST"];
    lists::print(args.client.output, &schemas, schema_json, &headings, row)
}
