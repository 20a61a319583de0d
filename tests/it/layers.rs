//! Who may use whom. Cargo cannot keep layers apart inside one crate; this test does.
//!
//! The table is that of `ARCHITECTURE.md`, in full. A row uses only rows above it, so there are no
//! cycles.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{files_below, relative, root, text_of};

/// A module, the modules it may use besides itself, and the outside crates it may name.
struct Row {
    module: &'static str,
    uses: &'static [&'static str],
    names: &'static [&'static str],
}

const TABLE: &[Row] = &[
    Row {
        module: "model",
        uses: &[],
        // `bytes`, `bytestring`: what was read is shared, not copied; `sha2`: a digest is a value.
        names: &["bytes", "bytestring", "chrono", "serde", "serde_json", "sha2", "uuid"],
    },
    Row { module: "delivery", uses: &["model"], names: &["ahash", "xxhash_rust"] },
    Row {
        module: "schema",
        uses: &["model"],
        names: &["jsonschema", "regex_syntax", "serde_json"],
    },
    Row {
        module: "condition",
        uses: &["model", "schema"],
        names: &["chrono", "chrono_tz", "regex"],
    },
    Row {
        module: "storage",
        uses: &["model"],
        names: &[
            "ahash",
            "arc_swap",
            "bytes",
            "crc32c",
            "prost",
            "quick_cache",
            "rustix",
            "sled",
            "uuid",
            "xxhash_rust",
            "zstd",
        ],
    },
    Row {
        module: "store",
        uses: &["model", "delivery", "schema", "condition", "storage"],
        names: &[
            "ahash",
            "arc_swap",
            "bytes",
            "bytestring",
            "prost",
            "json_patch",
            "quick_cache",
            "serde_json",
            "tokio",
            "tokio_util",
            "uuid",
            "xxhash_rust",
        ],
    },
    Row {
        module: "grpc",
        // `schema`: a document's kind and its problems are part of the store's answers.
        uses: &["model", "delivery", "schema", "condition", "store"],
        names: &[
            "base64",
            "bytes",
            "bytestring",
            "http",
            "http_body",
            "prost",
            "prost_types",
            "serde_json",
            "tokio",
            "tokio_stream",
            "tokio_util",
            "tonic",
            "tonic_health",
            "tonic_prost",
            "tonic_reflection",
            "tonic_types",
            "tower",
            "xxhash_rust",
        ],
    },
    Row { module: "telemetry", uses: &[], names: &["tracing_subscriber"] },
    Row {
        module: "config",
        uses: &["model", "telemetry"],
        // `tracing_subscriber`: a log filter is checked where it is configured.
        names: &["clap", "serde", "toml", "tracing_subscriber"],
    },
    Row {
        module: "server",
        uses: &["model", "storage", "store", "grpc", "config"],
        names: &["tokio", "tokio_stream", "tokio_util"],
    },
    Row {
        module: "cli",
        uses: &["model", "schema", "store", "grpc", "config", "telemetry", "server"],
        names: &[
            "anyhow",
            "base64",
            "bytes",
            "clap",
            "clap_complete",
            "indicatif",
            "prost_types",
            "serde",
            "serde_json",
            "terminal_size",
            "tokio",
            "tokio_stream",
            "uuid",
            "xxhash_rust",
        ],
    },
    Row { module: "main", uses: &["cli"], names: &["mimalloc", "rustix"] },
];

/// Any module may name these.
const ANYWHERE: &[&str] = &["thiserror", "tracing"];
/// Unit tests may, besides.
const IN_TESTS: &[&str] = &["cel", "proptest", "serde_json", "tempfile", "tokio"];
/// The one place of a crate, whatever the table says of its neighbours.
const ONE_OWNER: &[(&str, &[&str])] = &[
    ("jsonschema", &["schema"]),
    ("regex", &["condition"]),
    ("sled", &["storage"]),
    ("zstd", &["storage"]),
    ("clap", &["cli", "config"]),
    ("tonic", &["grpc"]),
];

#[test]
fn a_row_uses_only_rows_above_it() {
    for (index, row) in TABLE.iter().enumerate() {
        for used in row.uses {
            let above = TABLE[..index].iter().any(|it| it.module == *used);
            assert!(above, "`{}` may not use `{used}`: it is not above", row.module);
        }
    }
    for (crate_name, owners) in ONE_OWNER {
        for row in TABLE.iter().filter(|row| row.names.contains(crate_name)) {
            assert!(owners.contains(&row.module), "`{}` may not name `{crate_name}`", row.module);
        }
    }
}

#[test]
fn the_page_has_the_same_rows_in_the_same_order() {
    let page = text_of("ARCHITECTURE.md");
    let (_, map) = page.split_once("| module |").unwrap();
    let lines = map.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut on_page = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let modules: Vec<&str> = cells[0].split(", ").map(|it| it.trim_matches('`')).collect();
        let words = cells[2].split(|it: char| !(is_name(it) || it == '-'));
        let crates: BTreeSet<_> = words.map(|it| it.replace('-', "_")).collect();
        for named in crates.intersection(&dependencies()) {
            let rows = TABLE.iter().filter(|row| modules.contains(&row.module));
            let allowed = rows.into_iter().any(|row| row.names.contains(&named.as_str()));
            assert!(allowed, "{modules:?} may not name `{named}`, says the test's table");
        }
        on_page.push(modules);
    }
    // A row of the page may have several modules, which are then in any order.
    let places: Vec<_> = TABLE
        .iter()
        .map(|row| on_page.iter().position(|it| it.contains(&row.module)).expect(row.module))
        .collect();
    assert!(places.is_sorted(), "{on_page:?}");
    assert_eq!(on_page.iter().map(Vec::len).sum::<usize>(), TABLE.len(), "{on_page:?}");
}

#[test]
fn every_module_keeps_to_its_row() {
    let crates = dependencies();
    let files = files_below("src", "rs");
    assert!(files.len() > 10, "only {} files under src", files.len());
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let name = relative(&file);
        let module = top_module(&file);
        if module == "lib" {
            continue; // declares the modules
        }
        let Some(row) = TABLE.iter().find(|row| row.module == module) else {
            wrong.push(format!("{name}:1: module `{module}` has no row in the table"));
            continue;
        };
        seen.insert(row.module);
        let source = Source::read(&file);
        for (line, used) in source.own_modules() {
            if used != module && !row.uses.contains(&&*used) && is_module(&used) {
                wrong.push(format!("{name}:{line}: `{module}` may not use `crate::{used}`"));
            }
        }
        for (line, named, in_tests) in source.crates(&crates) {
            let allowed = row.names.contains(&&*named)
                || ANYWHERE.contains(&&*named)
                || (in_tests && IN_TESTS.contains(&&*named));
            if !allowed {
                wrong.push(format!("{name}:{line}: `{module}` may not name the crate `{named}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(seen.contains("model") && seen.contains("storage"), "{seen:?}");
}

#[test]
fn the_scanner_sees_uses_and_not_comments_or_texts() {
    let source = Source::parse(
        "// crate::cli sled::Db\n\
         use crate::{model::{Position, json}, store::EventStore};\n\
         /* tonic::Status */ const A: &str = \"sled::Db \\\" crate::grpc\";\n\
         const B: &str = r#\"crate::grpc \"quoted\" sled::Db\"#; const C: char = '\"';\n\
         fn f<'a>(it: &'a tokio::sync::Mutex<u8>) { crate::storage::open(); self::sled::x(); }\n\
         use uuid;\n\
         #[cfg(test)]\n\
         mod tests { use tempfile::tempdir; }\n",
        false,
    );
    let own: Vec<_> = source.own_modules();
    assert_eq!(own, [(2, "model".into()), (2, "store".into()), (5, "storage".into())]);
    let crates = ["sled", "tonic", "tokio", "uuid", "tempfile"].map(String::from).into();
    assert_eq!(
        source.crates(&crates),
        [(5, "tokio".into(), false), (6, "uuid".into(), false), (8, "tempfile".into(), true)]
    );
}

fn is_module(name: &str) -> bool {
    root().join("src").join(name).is_dir()
        || root().join("src").join(name).with_extension("rs").is_file()
}

/// The crates of Cargo.toml, as code spells them.
fn dependencies() -> BTreeSet<String> {
    let manifest: toml::Table = text_of("Cargo.toml").parse().unwrap();
    let sections = ["dependencies", "dev-dependencies"].map(|it| manifest[it].as_table().unwrap());
    sections.iter().flat_map(|it| it.keys()).map(|it| it.replace('-', "_")).collect()
}

fn top_module(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

/// Source text with comments and literals blanked out, so that every path left is code.
struct Source {
    code: String,
    /// Where unit tests begin.
    tests_from: usize,
}

impl Source {
    fn read(file: &Path) -> Self {
        let stem = file.file_stem().unwrap();
        let within_tests = stem == "tests" || file.components().any(|it| it.as_os_str() == "tests");
        Self::parse(&fs::read_to_string(file).unwrap(), within_tests)
    }

    fn parse(text: &str, within_tests: bool) -> Self {
        let code = blank(text);
        let tests_from = if within_tests {
            0
        } else {
            code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len())
        };
        Self { code, tests_from }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    /// Where a path begins, and its first name.
    fn path_roots(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) = self.code[at..].find(is_name) {
            let start = at + start;
            let length = self.code[start..].find(|it| !is_name(it)).unwrap_or(0);
            at = start + length.max(1);
            let name = &self.code[start..at];
            let is_path = self.code[at..].starts_with("::")
                || self.code[..start].ends_with("use ") && self.code[at..].starts_with([';', ' ']);
            let is_root = !self.code[..start].trim_end().ends_with("::")
                || self.code[..start].ends_with(" ::");
            if is_path && is_root {
                found.push((start, name));
            }
        }
        found
    }

    /// The modules of this crate that the file uses, with lines.
    fn own_modules(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (start, name) in self.path_roots() {
            if name != "crate" {
                continue;
            }
            let rest = &self.code[start + "crate::".len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => first_names(group),
                None => first_names(&format!("{rest}}}")).into_iter().take(1).collect(),
            };
            found.extend(names.into_iter().map(|it| (self.line(start), it)));
        }
        found
    }

    /// The outside crates that the file names, with lines and whether in tests.
    fn crates(&self, known: &BTreeSet<String>) -> Vec<(usize, String, bool)> {
        let roots = self.path_roots().into_iter();
        roots
            .filter(|(_, name)| known.contains(*name))
            .map(|(start, name)| (self.line(start), name.to_owned(), start >= self.tests_from))
            .collect()
    }
}

/// The first name of each item of a `use` group, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    let mut rest = group.char_indices().peekable();
    while let Some((at, it)) = rest.next() {
        match it {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && is_name(it) => {
                let length = group[at..].find(|it| !is_name(it)).unwrap_or(group.len() - at);
                names.push(group[at..at + length].to_owned());
                while rest.next_if(|(_, it)| is_name(*it)).is_some() {}
                fresh = false;
            }
            _ => (),
        }
    }
    names
}

fn is_name(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

/// The text with the inside of comments, strings and characters replaced by spaces.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |it| it + 2)
        } else if let Some(length) = raw_string(rest).filter(|_| !code.ends_with(is_name)) {
            length
        } else if first == '"' {
            1 + string_end(&rest[1..], '"')
        } else if first == '\'' && is_char(rest) {
            1 + string_end(&rest[1..], '\'')
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(|it| if it == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

/// Length of the raw string that the text starts with.
fn raw_string(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    after_r[hashes..].strip_prefix('"')?;
    let start = text.len() - after_r.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map(|it| start + it + end.len())
}

/// Length up to and including the closing quote.
fn string_end(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, it) in text.char_indices() {
        match it {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if it == quote => return at + 1,
            _ => (),
        }
    }
    text.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_char(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}
