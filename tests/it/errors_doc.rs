//! `docs/errors.md` against the contract.

use std::{collections::BTreeMap, sync::OnceLock};

use milepost::grpc::pb::ErrorReason;

use crate::support::text_of;

/// A row of the page's table.
#[derive(Debug)]
struct Row {
    code: String,
    cause: String,
    what_to_do: String,
    retry: String,
    written: String,
}

fn table() -> &'static BTreeMap<String, Row> {
    static TABLE: OnceLock<BTreeMap<String, Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let page = text_of("docs/errors.md");
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let mut table = BTreeMap::new();
        for line in rows {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [reason, code, cause, what_to_do, retry, written] = cells[..] else {
                panic!("{} cells in `{line}`", cells.len());
            };
            let name = |cell: &str| cell.trim_matches('`').to_owned();
            let row = Row {
                code: name(code),
                cause: cause.into(),
                what_to_do: what_to_do.into(),
                retry: retry.into(),
                written: written.into(),
            };
            let twice = table.insert(name(reason), row);
            assert!(twice.is_none(), "two rows for {reason}");
        }
        table
    })
}

/// The code that the page gives for a reason, as `tonic::Code` spells it.
pub(crate) fn code_of(reason: &str) -> String {
    let row = table().get(reason).unwrap_or_else(|| panic!("no row for `{reason}`"));
    row.code.split('_').map(capitalised).collect()
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_owned() + &rest.to_lowercase()
}

/// Name and comment of every reason in the contract.
fn reasons() -> Vec<(String, String)> {
    let proto = text_of("proto/milepost/v1/error_reason.proto");
    let (_, body) = proto.split_once("enum ErrorReason {").unwrap();
    let (mut found, mut comment) = (Vec::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("//") {
            comment += text;
        } else if let Some((name, _number)) = line.split_once(" = ") {
            found.push((name.to_owned(), std::mem::take(&mut comment)));
        }
    }
    found.retain(|(name, _)| name != ErrorReason::Unspecified.as_str_name());
    found
}

#[test]
fn every_reason_has_one_complete_row_and_every_row_a_reason() {
    let reasons = reasons();
    assert!(reasons.len() > 30, "only {} reasons were found", reasons.len());
    let mut wrong = Vec::new();
    for (name, _) in &reasons {
        assert!(ErrorReason::from_str_name(name).is_some(), "`{name}` was not compiled");
        match table().get(name) {
            None => wrong.push(format!("{name}: no row")),
            Some(row) => {
                let cells = [&row.code, &row.cause, &row.what_to_do, &row.retry, &row.written];
                if cells.iter().any(|it| it.is_empty()) {
                    wrong.push(format!("{name}: an empty cell"));
                }
            }
        }
    }
    for name in table().keys().filter(|name| !reasons.iter().any(|(it, _)| it == *name)) {
        wrong.push(format!("{name}: a row, but the contract has no such reason"));
    }
    assert!(wrong.is_empty(), "docs/errors.md:\n{}", wrong.join("\n"));
}

#[test]
fn rows_and_comments_agree_on_retry_and_on_what_is_written() {
    let mut wrong = Vec::new();
    for (name, comment) in reasons() {
        let Some(row) = table().get(&name) else { continue };
        for (label, cell) in [("Retry: ", &row.retry), ("Written: ", &row.written)] {
            let said = comment.split_once(label).map(|(_, rest)| first_word(rest));
            if said != Some(first_word(cell)) {
                wrong.push(format!("{name}: {label}`{cell}`, the contract says {said:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/errors.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_code_is_one_that_grpc_has() {
    for (reason, row) in table() {
        let code = code_of(reason);
        let known = (1..17).any(|number| format!("{:?}", tonic::Code::from_i32(number)) == code);
        assert!(known, "{reason}: gRPC has no code `{}`", row.code);
    }
}

fn first_word(text: &str) -> &str {
    text.split(|it: char| !it.is_alphabetic()).next().unwrap_or_default()
}
