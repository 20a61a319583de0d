//! Conditions of an append, from messages.

use crate::{
    grpc::{from_proto, pb},
    model::{Condition, DatasetName, EventFilter, EventTypePattern, Position},
    store::{Error, check_conditions},
};

/// Parses conditions; the first mistake is told.
pub(super) fn conditions(conditions: Vec<pb::Condition>) -> Result<Vec<Condition>, Error> {
    check_conditions(conditions.len())?;
    let parse =
        |(index, it): (usize, pb::Condition)| condition(&format!("conditions[{index}]"), it);
    conditions.into_iter().enumerate().map(parse).collect()
}

fn condition(at: &str, condition: pb::Condition) -> Result<Condition, Error> {
    use pb::condition::Condition as Choice;
    match condition.condition {
        Some(Choice::ExpectedLastPosition(it)) => {
            last_position(&format!("{at}.expected_last_position"), &it)
        }
        Some(Choice::FailIfMatch(it)) => no_match(&format!("{at}.fail_if_match"), it),
        Some(Choice::SchemaVersionIs(0)) => {
            let message = "0; wanted a version from 1 on";
            Err(Error::invalid(format!("{at}.schema_version_is"), message))
        }
        Some(Choice::SchemaVersionIs(version)) => Ok(Condition::SchemaVersion(version)),
        None => {
            let wanted = "`expected_last_position`, `fail_if_match` or `schema_version_is`";
            Err(Error::invalid(at, format!("missing; wanted {wanted}")))
        }
    }
}

fn last_position(at: &str, condition: &pb::ExpectedLastPosition) -> Result<Condition, Error> {
    use pb::expected_last_position::Expected;
    let mut filter = EventFilter::default();
    if !condition.dataset.is_empty() {
        let field = format!("{at}.dataset");
        filter.datasets.push(DatasetName::parse(&field, &condition.dataset)?);
    }
    match &condition.identity {
        Some(identity) => {
            let field = format!("{at}.identity");
            let identity = from_proto::identity(&field, identity)?;
            if identity.id.is_none() {
                return Err(Error::invalid(format!("{field}.id"), "missing"));
            }
            filter.identities.push(identity);
        }
        None if condition.dataset.is_empty() => {
            return Err(Error::invalid(at, "has no scope; wanted `dataset` or `identity`"));
        }
        None => {}
    }
    if !condition.event_type.is_empty() {
        let field = format!("{at}.event_type");
        if condition.identity.is_none() {
            return Err(Error::invalid(field, "only together with `identity`"));
        }
        match from_proto::event_type(&field, &condition.event_type)? {
            EventTypePattern::Prefix(_) => {
                return Err(Error::invalid(field, "a prefix; wanted one event type"));
            }
            exact @ EventTypePattern::Exact(_) => filter.event_types.push(exact),
        }
    }
    let expected = match &condition.expected {
        Some(Expected::Position(position)) => Some(Position::new(*position)),
        Some(Expected::None(_)) => Some(Position::START),
        Some(Expected::Any(_)) => None,
        None => {
            let field = format!("{at}.expected");
            return Err(Error::invalid(field, "missing; wanted `position`, `none` or `any`"));
        }
    };
    Ok(Condition::LastPosition { filter, expected })
}

fn no_match(at: &str, condition: pb::FailIfMatch) -> Result<Condition, Error> {
    let field = format!("{at}.filter");
    let filter = from_proto::filter_at(&field, condition.filter)?;
    for (name, range) in [("event_time", &filter.event_time), ("record_time", &filter.record_time)]
    {
        if !range.is_unbounded() {
            let message = "not in the index, so not in a condition";
            return Err(Error::invalid(format!("{field}.{name}"), message));
        }
    }
    if filter.condition.is_some() {
        let message = "not in the index, so not in a condition";
        return Err(Error::invalid(format!("{field}.where"), message));
    }
    if filter.deliver_as.is_some() {
        let message = "decides what is delivered; wanted `event_definitions` in a condition";
        return Err(Error::invalid(format!("{field}.deliver_as"), message));
    }
    Ok(Condition::NoMatch { filter, after: Position::new(condition.after) })
}
