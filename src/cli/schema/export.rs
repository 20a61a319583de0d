//! `milepost schema export`.

use std::{collections::HashSet, path::PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::{Output, printable},
        schema::{
            descriptor,
            import::{DESCRIPTORS, progress},
        },
    },
    grpc::pb,
};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// Schemas by `$id`, or by `$id` and version as `ID@3`; none: all that do not come with the
    /// server
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Where to write them, a file for each version, and what is said about their fields in
    /// `descriptors.ndjson`; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(super) async fn run(args: ExportArgs) -> Done {
    let mut client = args.client.connect().await?.schemas();
    let schemas = args.ids.iter().map(|it| reference(it)).collect();
    let request = pb::ExportSchemasRequest { schemas };
    let mut pages = client.export_schemas(request).await?.into_inner();
    let cannot = || format!("cannot write into `{}`", args.dir.display());
    std::fs::create_dir_all(&args.dir).with_context(cannot)?;
    let mut output = Output::new(args.client.output);
    let mut names = HashSet::new();
    let mut count = 0;
    let mut bar = None;
    let mut said = Vec::new();
    while let Some(page) = pages.message().await? {
        let total = usize::try_from(page.total).unwrap_or(usize::MAX);
        let bar = bar.get_or_insert_with(|| progress(total));
        said.extend(page.descriptors);
        for schema in page.schemas {
            let name = file_name(&schema, &mut names);
            std::fs::write(args.dir.join(&name), &schema.document).with_context(cannot)?;
            count += 1;
            bar.inc(1);
            if output.is_json() {
                let value = json!({ "file": name, "id": schema.id, "version": schema.version,
                    "digest": schema.digest });
                output.json(&value)?;
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if !said.is_empty() {
        let mut lines = String::new();
        for descriptor in &said {
            lines.push_str(&descriptor::read(descriptor)?.to_xdm().to_string());
            lines.push('\n');
        }
        std::fs::write(args.dir.join(DESCRIPTORS), lines).with_context(cannot)?;
    }
    if !output.is_json() {
        let beside = match said.len() {
            0 => String::new(),
            descriptors => format!(", and {descriptors} descriptors"),
        };
        let text = format!("{count} written to {}{beside}", args.dir.display());
        output.line(printable(&text))?;
    }
    output.flush()?;
    Ok::<(), Failure>(())
}

/// `ID`, or `ID@VERSION`.
fn reference(text: &str) -> pb::SchemaReference {
    let versioned = text.rsplit_once('@').and_then(|(id, it)| Some((id, it.parse().ok()?)));
    let (id, version) = versioned.unwrap_or((text, 0));
    pb::SchemaReference { id: id.to_owned(), version }
}

/// Bytes of a file's name, without what makes it differ from others.
const STEM_BYTES_MAX: usize = 150;

/// A name that no file before has: the id without its scheme, in safe characters.
fn file_name(schema: &pb::Schema, taken: &mut HashSet<String>) -> String {
    let id = schema.id.split_once("://").map_or(schema.id.as_str(), |(_, rest)| rest);
    let safe = |it: char| it.is_ascii_alphanumeric() || "-.".contains(it);
    let stem: String = id.chars().map(|it| if safe(it) { it } else { '_' }).collect();
    let stem = stem.trim_start_matches('.');
    let stem = stem.get(..STEM_BYTES_MAX).unwrap_or(stem);
    let stem = format!("{stem}.v{}", schema.version);
    let mut name = format!("{stem}.json");
    // File systems may not tell letter case.
    let mut count = 1;
    while !taken.insert(name.to_lowercase()) {
        count += 1;
        name = format!("{stem}-{count}.json");
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{file_name, pb, reference};

    #[test]
    fn names_are_safe_and_differ() {
        let mut taken = HashSet::new();
        let mut name = |id: &str| {
            let schema = pb::Schema { id: id.into(), version: 2, ..Default::default() };
            file_name(&schema, &mut taken)
        };
        assert_eq!(name("https://a.b/c/d"), "a.b_c_d.v2.json");
        assert_eq!(name("https://a.b/c_d"), "a.b_c_d.v2-2.json");
        assert_eq!(name("https://A.b/c/d"), "A.b_c_d.v2-3.json");
        assert_eq!(name("urn:../x"), "urn_.._x.v2.json");
        assert_eq!(name("x://../../etc"), "_.._etc.v2.json");
        assert!(name(&format!("https://{}", "é".repeat(500))).len() < 200);
    }

    #[test]
    fn a_version_may_follow_an_id() {
        let check = |text, id: &str, version| {
            assert_eq!(reference(text), pb::SchemaReference { id: id.into(), version });
        };
        check("https://a.b/c", "https://a.b/c", 0);
        check("https://a.b/c@3", "https://a.b/c", 3);
        check("https://me@a.b/c", "https://me@a.b/c", 0);
    }
}
