//! Nothing that is written makes the parser, the checker or an evaluation fall over.

use proptest::prelude::*;

use crate::condition::{Expression, parse::parse, tests::holds};

const EVENT: &str = r#"{"a":1,"b":"x","c":{"d":[1,2,{"e":"ü"}]},"n":null,"t":true,"f":1.5}"#;

/// Words of the language, so that what is put together is often a condition.
const WORDS: [&str; 44] = [
    "a",
    "b",
    "c",
    "d",
    "n",
    "t",
    "f",
    "1",
    "2.5",
    "'x'",
    "\"y\"",
    "null",
    "true",
    "false",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "in",
    "(",
    ")",
    "[",
    "]",
    ".",
    ",",
    "?",
    ":",
    "has",
    "size",
    "exists",
    "now()",
    "timestamp",
    "`k v`",
    " ",
];

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in ".{0,200}") {
        if let Ok(condition) = Expression::condition(&text, None) {
            let _either = holds(&condition, EVENT);
        }
    }

    #[test]
    fn any_words_are_taken_or_refused_and_written_again_they_mean_the_same(
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 1..24)
    ) {
        let text = words.join(" ");
        let Ok(syntax) = parse(&text) else { return Ok(()) };
        let written = syntax.to_string();
        let again = parse(&written).map_err(|it| {
            TestCaseError::fail(format!("`{text}` became `{written}`: {it:?}"))
        })?;
        prop_assert_eq!(again.to_string(), written.clone());
        let both = (Expression::condition(&text, None), Expression::condition(&written, None));
        if let (Ok(first), Ok(second)) = both {
            prop_assert_eq!(holds(&first, EVENT), holds(&second, EVENT), "{} {}", text, written);
        }
    }
}

#[test]
fn bounds_are_refused_one_beyond() {
    let taken = |text: &str| Expression::condition(text, None).is_ok();
    let refused = |text: &str, word: &str| {
        let said = Expression::condition(text, None).unwrap_err().to_string();
        assert!(said.contains(word), "{said}");
    };
    let terms = |count: usize| vec!["t"; count].join(" && ");
    assert!(taken(&terms(500)));
    refused(&terms(600), "parts");
    let nested = |levels: usize| format!("{}t{}", "(".repeat(levels), ")".repeat(levels));
    assert!(taken(&nested(40)));
    refused(&nested(60), "levels");
    refused(&format!("{}t", "!".repeat(60)), "levels");
    refused(&vec!["a"; 60].join("+"), "levels");
    refused(&vec!["a"; 60].join("."), "levels");
    refused(&format!("a == '{}'", "x".repeat(4090)), "bytes");
    refused(&format!("a in [{}]", vec!["1"; 257].join(",")), "elements");
    refused("[1].all(x, [1].all(y, [1].all(z, true)))", "a loop in more than");
    refused("b.matches('(a{1000}){1000}')", "compiled");
    for deep in ["(", "[", "!", "-", "a.", "a[", "a ? ", "has(", "x.map(y, "] {
        drop(Expression::condition(&deep.repeat(2000), None));
    }
}
