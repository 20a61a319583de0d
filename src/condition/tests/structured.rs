//! Groups of tests, to text and back.

use crate::condition::{FieldTest, Scalar, Structured, TestOperator};

/// A text that is made of groups and tests comes back as this text.
#[track_caller]
fn check(text: &str, again: &str) {
    let structured = Structured::of_text(text).unwrap().unwrap_or_else(|| panic!("{text}"));
    let written = structured.to_text().unwrap();
    assert_eq!(written, again);
    assert_eq!(Structured::of_text(&written).unwrap(), Some(structured));
}

#[test]
fn what_is_made_of_tests_goes_both_ways() {
    for same in [
        "eventType == 'a'",
        "eventType != 'a' && count > 3",
        "(a == 1 || b == 2.5) && c == true",
        "a == 1 || b <= 2 && c >= 3",
        "tier in ['silver', 'gold']",
        "eventType.startsWith('a') && eventType.endsWith('b') && eventType.contains('it\\'s')",
        "has(commerce.order) && !has(commerce.order.purchaseID)",
        "items[0].SKU == 'x' && identityMap['Email'][0].id == 'y'",
        "timestamp < timestamp('2026-11-23T09:30:00Z')",
        "`odd name`.b < -1",
    ] {
        check(same, same);
    }
    check("a == null && b != null", "!has(a) && has(b)");
    check("((a == 1))", "a == 1");
}

#[test]
fn what_is_made_of_more_stays_text() {
    for text in [
        "a + 1 == 2",
        "items.exists(it, it.n == 1)",
        "!(a == 1)",
        "a == b",
        "size(a) == 1",
        "eventType.matches('x')",
        "a",
    ] {
        assert_eq!(Structured::of_text(text).unwrap(), None, "{text}");
    }
    assert!(Structured::of_text("a ==").is_err());
}

#[test]
fn what_fits_together_badly_is_refused() {
    let test = |field: &str, operator, values: Vec<Scalar>| {
        let test = FieldTest { field: field.to_owned(), operator, values };
        Structured::Test(test).to_text().map_err(|it| it.to_string())
    };
    let one = || vec![Scalar::Whole(1)];
    assert!(test("a.b", TestOperator::Equal, one()).is_ok());
    for (field, operator, values) in [
        ("a +", TestOperator::Equal, one()),
        ("f(a)", TestOperator::Equal, one()),
        ("a", TestOperator::Equal, Vec::new()),
        ("a", TestOperator::Less, vec![Scalar::Whole(1), Scalar::Whole(2)]),
        ("a", TestOperator::Exists, one()),
    ] {
        assert!(test(field, operator, values).is_err(), "{field} {operator:?}");
    }
    assert!(Structured::Group { all: true, parts: Vec::new() }.to_text().is_err());
}
