//! Text of a format, of a pattern, or of a length.

use regex_syntax::hir::{Class, ClassUnicodeRange, Hir, HirKind};

use crate::schema::{effective::Facets, sample::Random};

const WORDS: [&str; 12] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "juniper",
    "kestrel", "lagoon",
];
/// Characters of one text.
const TEXT_MAX: usize = 4096;

/// `None` when no text can be made.
pub(super) fn text(random: &mut Random, facets: &Facets<'_>) -> Option<String> {
    let length = |keyword: &str| super::bound(facets, keyword);
    let (least, most) =
        (length("minLength").unwrap_or(0), length("maxLength").unwrap_or(usize::MAX));
    if least > TEXT_MAX {
        return None;
    }
    if let Some(pattern) = facets.patterns.first() {
        let hir = regex_syntax::parse(pattern).ok()?;
        let mut made = String::new();
        // Repeats at least once, so that a text is long enough rather than not.
        matching(random, &hir, &mut made)?;
        return Some(made);
    }
    if let Some(made) = facets.formats.iter().find_map(|it| formatted(random, it)) {
        return Some(made);
    }
    if let Some(value) = facets.suggested.iter().nth(random.below(facets.suggested.len()))
        && (least..=most).contains(&value.chars().count())
    {
        return Some((*value).to_owned());
    }
    let mut made = word(random);
    while made.chars().count() < least {
        made.push(' ');
        made += &word(random);
    }
    Some(made.chars().take(most).collect())
}

fn word(random: &mut Random) -> String {
    random.one_of(&WORDS).copied().unwrap_or("amber").to_owned()
}

/// A text of a format that is known.
fn formatted(random: &mut Random, format: &str) -> Option<String> {
    let mut part = |from: usize, count: usize| from + random.below(count);
    let date = format!("{}-{:02}-{:02}", part(2020, 6), part(1, 12), part(1, 28));
    let time = format!("{:02}:{:02}:{:02}Z", part(0, 24), part(0, 60), part(0, 60));
    let byte = [part(1, 254), part(0, 256), part(0, 256), part(1, 254)];
    let (number, unique) = (part(1, 99_999), part(0, 1 << 48));
    let word = word(random);
    Some(match format {
        "date-time" => format!("{date}T{time}"),
        "date" => date,
        "time" => time,
        "email" | "idn-email" => format!("{word}@example.com"),
        "hostname" | "idn-hostname" => format!("{word}.example.com"),
        "uri" | "iri" | "url" => format!("https://example.com/{word}/{number}"),
        // What events are told apart by.
        "uri-reference" | "iri-reference" => format!("{word}-{unique:012x}"),
        "uri-template" => format!("https://example.com/{word}/{{id}}"),
        "ipv4" => byte.map(|it| it.to_string()).join("."),
        "ipv6" => format!("2001:db8::{:x}:{number:x}", byte[1]),
        "uuid" => format!("{number:08x}-0000-4000-8000-{number:012x}"),
        "json-pointer" => format!("/{word}"),
        "relative-json-pointer" => format!("0/{word}"),
        "regex" => format!("^{word}$"),
        "duration" => format!("P{}D", byte[1] + 1),
        _ => return None,
    })
}

/// Appends a text that matches.
fn matching(random: &mut Random, hir: &Hir, made: &mut String) -> Option<()> {
    if made.len() > TEXT_MAX {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => made.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => made.push(character(random, class)?),
        HirKind::Capture(capture) => matching(random, &capture.sub, made)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|it| matching(random, it, made))?,
        HirKind::Alternation(choices) => matching(random, random.clone().one_of(choices)?, made)?,
        HirKind::Repetition(repetition) => {
            let least = repetition.min.max(1);
            let most = repetition.max.unwrap_or(u32::MAX).min(least.saturating_add(3));
            let spread = usize::try_from(most.saturating_sub(least)).ok()?;
            let times = usize::try_from(least).ok()? + random.below(spread + 1);
            let times = times.min(usize::try_from(repetition.max.unwrap_or(u32::MAX)).ok()?);
            (0..times).try_for_each(|_| matching(random, &repetition.sub, made))?;
        }
    }
    Some(())
}

/// A character of a class, a printable one of ASCII if there is any.
fn character(random: &mut Random, class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else { return None };
    let letters = ('0'..='9').chain('A'..='Z').chain('a'..='z');
    let printable: Vec<char> = letters.chain(' '..='~').collect();
    let has =
        |it: &char| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(it));
    let fitting: Vec<char> = printable.into_iter().filter(has).collect();
    let first = || class.ranges().first().map(ClassUnicodeRange::start);
    random.one_of(&fitting).copied().or_else(first)
}
