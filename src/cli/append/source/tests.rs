use super::{Form, Source};

/// `line start text` of each event, or the error.
fn read(text: &[u8]) -> Vec<String> {
    let mut source = Source::new("in", std::io::Cursor::new(text.to_vec()));
    let mut found = Vec::new();
    loop {
        match source.next_event() {
            Ok(None) => return found,
            Ok(Some(event)) => {
                let text = event.text.unwrap_or_else(|problem| format!("({problem})"));
                found.push(format!("{} {} {text}", event.line, event.start));
            }
            Err(error) => {
                found.push(format!("{error:#}"));
                return found;
            }
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(read(text.as_bytes()), expected, "{text}");
}

#[test]
fn lines_are_events_and_blank_lines_are_not() {
    check("", &[]);
    check("{\"a\":1}\n{\"a\":2}", &["1 0 {\"a\":1}", "2 8 {\"a\":2}"]);
    check("\n\n{}\r\n  \n{ }\n", &["3 2 {}", "5 9 { }"]);
    check("not json\n{}\n", &["1 0 not json", "2 9 {}"]);
    check("\u{feff}{}\n", &["1 3 {}"]);
}

#[test]
fn the_elements_of_an_array_are_events() {
    check("[]", &[]);
    check(" [ ] \n", &[]);
    check(
        "[{\"a\":[1,2]},\n {\"b\":\"]}\\\"\"}]",
        &["1 1 {\"a\":[1,2]}", "2 15 {\"b\":\"]}\\\"\"}"],
    );
    check("[{\n\"a\":1\n},\n{}]\n", &["1 1 {\n\"a\":1\n}", "4 12 {}"]);
    check("[1, \"x\", null]", &["1 1 1", "1 4 \"x\"", "1 9 null"]);
}

#[test]
fn a_broken_array_tells_where() {
    check("[{}", &["1 1 {}", "in:1: the array has no `]`"]);
    check("[{} {}]", &["1 1 {}", "in:1: found `{`, wanted `,` or `]`"]);
    check("[{},\n]", &["1 1 {}", "in:2: found `]`, wanted a JSON value"]);
    check("[{}] {}", &["1 1 {}", "in:1: found `{`, wanted the end after `]`"]);
    check("[{\"a\":\n\"x", &["in:2: the value that begins on line 1 does not end"]);
    check("[", &["in:1: the array has no `]`"]);
}

#[test]
fn objects_may_spread_over_lines() {
    check("{\n \"a\": 1\n}\n{\n}\n", &["1 0 {\n \"a\": 1\n}", "4 12 {\n}"]);
    check("{\n}\nx", &["1 0 {\n}", "in:3: found `x`, wanted `{`"]);
}

#[test]
fn what_is_not_text_is_one_bad_event() {
    let found = read(b"{\"a\":\"\xff\"}\n{}\n");
    assert_eq!(found, ["1 0 (not UTF-8 after 6 bytes)", "2 10 {}"]);
}

#[test]
fn a_source_goes_on_from_every_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    for text in ["{\"a\":1}\n{\"a\":2}\n\n{\"a\":3}\n", "[{\"a\":1},\n{\"a\":2} , {\"a\":3}]\n"] {
        std::fs::write(&path, text).unwrap();
        let whole = read(text.as_bytes());
        let mut source = Source::open(&path).unwrap();
        let mut seen = 0;
        while let Some(event) = source.next_event().unwrap() {
            seen += 1;
            let form: Form = source.form().unwrap();
            let mut rest = Source::resume(&path, form, event.next).unwrap();
            let mut found = Vec::new();
            while let Some(event) = rest.next_event().unwrap() {
                found.push(format!("{} {} {}", event.line, event.start, event.text.unwrap()));
            }
            assert_eq!(found, whole[seen..], "{text}");
        }
        assert_eq!(seen, 3);
    }
}
