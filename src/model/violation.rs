//! One broken rule of an event.

use crate::model::limits;

/// One broken rule: where in the payload, which rule, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the payload; empty for the payload as a whole.
    pub instance_path: String,
    /// `$id` of the schema document, `#`, and a JSON Pointer into it; `milepost:event#/…` for the
    /// rules that every event obeys.
    pub schema_path: String,
    /// The keyword that failed.
    pub keyword: String,
    /// Found and wanted, lowercase, for people.
    pub message: String,
    /// What the rule wants, in short; empty where that is not said in short, or the value is personal.
    pub expected: String,
    /// The value that was found, in short; empty where nothing was, or the value is personal.
    pub found: String,
}

impl Violation {
    /// One of the rules that every event obeys.
    pub(crate) fn of_event(path: &str, keyword: &str, message: impl Into<String>) -> Self {
        Self {
            instance_path: path.to_owned(),
            schema_path: format!("milepost:event#/{keyword}"),
            keyword: keyword.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// The same, telling in short what the rule wants and what was found.
    #[must_use]
    pub(crate) fn telling(self, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { expected: expected.into(), found: found.into(), ..self }
    }

    /// Cuts a path that is too long to tell: it then leads to the deepest place above that fits.
    pub(crate) fn shorten_path(&mut self) {
        let path = &mut self.instance_path;
        if path.len() > limits::VIOLATION_PATH_BYTES_MAX {
            let kept = path.floor_char_boundary(limits::VIOLATION_PATH_BYTES_MAX + 1);
            let level = path.get(..kept).and_then(|it| it.rfind('/')).unwrap_or(0);
            path.truncate(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_at_a_level() {
        #[track_caller]
        fn check(path: &str, kept: &str) {
            let instance_path = path.to_owned();
            let mut violation = Violation { instance_path, ..Violation::default() };
            violation.shorten_path();
            assert_eq!(violation.instance_path, kept);
        }
        let most = format!("/a/{}", "ü".repeat(510));
        assert!(most.len() <= limits::VIOLATION_PATH_BYTES_MAX);
        check("", "");
        check("/a/b", "/a/b");
        check(&most, &most);
        check(&format!("{most}/b"), &most);
        check(&format!("{most}bcd/b"), "/a");
        check(&format!("/{}", "k".repeat(5000)), "");
    }
}
