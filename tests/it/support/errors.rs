//! What an error must say.

use milepost::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// An error's parts that clients may rely on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Field and description of each violation.
    pub(crate) fields: Vec<(String, String)>,
}

/// Takes an error apart. Every error must have a known reason, in the domain `milepost`, and the
/// code that `docs/errors.md` gives for it.
#[track_caller]
pub(crate) fn seen(status: &Status) -> Seen {
    let Some(info) = status.get_details_error_info() else {
        panic!("an error without ErrorInfo: {status:?}");
    };
    assert_eq!(info.domain, "milepost", "{status:?}");
    assert!(
        pb::ErrorReason::from_str_name(&info.reason).is_some(),
        "the contract has no reason `{}`",
        info.reason
    );
    let fields = status.get_details_bad_request().map(|it| it.field_violations).unwrap_or_default();
    let seen = Seen {
        code: status.code(),
        reason: info.reason,
        message: status.message().to_owned(),
        fields: fields.into_iter().map(|it| (it.field, it.description)).collect(),
    };
    let documented = crate::errors_doc::code_of(&seen.reason);
    assert_eq!(format!("{:?}", seen.code), documented, "docs/errors.md has another code: {seen:?}");
    assert!(!seen.message.is_empty(), "{seen:?}");
    assert!(!seen.message.ends_with('.'), "messages have no full stop: {seen:?}");
    seen
}

/// The error of a call that must fail, for this reason and with these words in it.
#[track_caller]
pub(crate) fn expect<T: std::fmt::Debug>(
    outcome: Result<T, Status>,
    reason: &str,
    words: &[&str],
) -> Seen {
    let status = match outcome {
        Ok(answer) => panic!("expected {reason}, the call succeeded: {answer:?}"),
        Err(status) => status,
    };
    let seen = seen(&status);
    assert_eq!(seen.reason, reason, "{seen:?}");
    for word in words {
        let said = seen.message.contains(word)
            || seen.fields.iter().any(|(field, text)| field.contains(word) || text.contains(word));
        assert!(said, "`{word}` is not in {seen:?}");
    }
    seen
}

/// How a call's error differs from this one, for tests with many rows; an empty field: any.
pub(crate) fn mismatch<T: std::fmt::Debug>(
    shown: &str,
    outcome: Result<T, Status>,
    reason: &str,
    field: &str,
    words: &[&str],
) -> Option<String> {
    let status = match outcome {
        Ok(answer) => {
            let answer: String = format!("{answer:?}").chars().take(300).collect();
            return Some(format!("{shown}\n    wanted {reason}, was taken: {answer}"));
        }
        Err(status) => status,
    };
    let seen = seen(&status);
    let said = format!("{} {:?}", seen.message, seen.fields);
    let right = seen.reason == reason
        && (field.is_empty() || seen.fields.iter().any(|(it, _)| it == field))
        && words.iter().all(|it| said.contains(it))
        && said.len() < 4096;
    (!right).then(|| {
        let said: String = said.chars().take(500).collect();
        format!("{shown}\n    wanted {reason} {field} {words:?}\n    found {} {said}", seen.reason)
    })
}

/// A status inside a message as the status that a call would have had.
pub(crate) fn status_of(status: &tonic_types::pb::Status) -> Status {
    use prost::Message as _;
    let details = status.encode_to_vec().into();
    Status::with_details(Code::from_i32(status.code), status.message.clone(), details)
}
