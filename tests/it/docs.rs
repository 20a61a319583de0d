//! The pages: links lead somewhere, flags exist, limits are the ones in force.

use std::collections::BTreeSet;

use crate::support::{files_below, relative, root, server::milepost, text_of};

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut wrong = Vec::new();
    let pages = files_below(".", "md");
    assert!(pages.len() >= 5, "only {} pages", pages.len());
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for (number, line) in text.lines().enumerate() {
            for target in links(line) {
                let path = target.split('#').next().unwrap();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                if !page.parent().unwrap().join(path).exists() {
                    wrong.push(format!("{}:{}: `{target}`", relative(&page), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn every_flag_on_the_operating_page_exists_and_every_flag_of_serve_is_on_it() {
    let page = text_of("docs/operating.md");
    let rows = page.lines().filter(|line| line.starts_with("| `--"));
    let documented: BTreeSet<String> = rows.flat_map(flags).collect();
    assert!(documented.len() >= 2, "{documented:?}");
    let help = milepost().args(["serve", "--help"]).output().unwrap();
    assert!(help.status.success(), "{help:?}");
    let mut offered: BTreeSet<String> =
        String::from_utf8(help.stdout).unwrap().lines().flat_map(flags).collect();
    offered.remove("--help");
    assert_eq!(documented, offered, "left: docs/operating.md, right: `milepost serve --help`");
}

/// The words of a line that start with two dashes.
fn flags(line: &str) -> Vec<String> {
    let is_flag = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let words = line.split(|it| !is_flag(it));
    words.filter(|it| it.starts_with("--") && it.len() > 2).map(str::to_owned).collect()
}

#[test]
fn the_limits_on_the_operating_page_are_those_in_force() {
    let page = text_of("docs/operating.md");
    let source = text_of("src/model/limits.rs");
    let mut wrong = Vec::new();
    let constants = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    for constant in constants {
        let (name, rest) = constant.split_once(": ").unwrap();
        let (_, value) = rest.split_once(" = ").unwrap();
        let value = shown(value.trim_end_matches(';'));
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        match row {
            None => wrong.push(format!("`{name}` has no row")),
            Some(row) if !row.contains(&format!("| {value} |")) => {
                wrong.push(format!("`{name}` is {value}, the page says {row}"));
            }
            Some(_) => (),
        }
    }
    assert!(wrong.is_empty(), "docs/operating.md:\n{}", wrong.join("\n"));
}

/// A constant's value as the page writes it.
fn shown(value: &str) -> String {
    for (of, unit) in [
        ("Duration::from_hours(", "h"),
        ("Duration::from_mins(", "min"),
        ("Duration::from_secs(", "s"),
        ("Duration::from_millis(", "ms"),
    ] {
        if let Some(count) = value.strip_prefix(of).and_then(|it| it.strip_suffix(')')) {
            return format!("{} {unit}", count.replace('_', " "));
        }
    }
    value.replace('_', " ").replace(" * ", " × ")
}

#[test]
fn the_repository_names_no_place_outside_itself() {
    let banned = ["/home/", "/root/", "/Users/", "C:\\"];
    for page in files_below(".", "md") {
        let text = std::fs::read_to_string(&page).unwrap();
        for word in banned {
            assert!(!text.contains(word), "{} names `{word}`", relative(&page));
        }
    }
    assert!(root().join("LICENSE").is_file());
}

/// Every test that the page of guarantees names exists, and every row names one.
#[test]
fn the_tests_of_every_guarantee_exist() {
    let page = text_of("docs/guarantees.md");
    let sources: Vec<(String, String)> = ["src", "tests"]
        .iter()
        .flat_map(|directory| files_below(directory, "rs"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"))
    {
        let tests: Vec<_> = row.split('`').filter(|it| it.contains("::")).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let (module, name) = test.rsplit_once("::").unwrap();
            let module = module.rsplit("::").next().unwrap();
            let there = sources
                .iter()
                .any(|(path, text)| path.contains(module) && text.contains(&format!("fn {name}(")));
            assert!(there, "there is no test `{test}`");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}
