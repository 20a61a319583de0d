//! Conditions as groups of tests, from messages and to messages.

use crate::{
    condition::{FieldTest, Problems, Scalar, Structured, TestOperator},
    grpc::{from_proto, pb, to_proto},
    model::{Invalid, Timestamp, limits},
    store::Error,
};

pub(super) fn convert(
    request: pb::ConvertConditionRequest,
) -> Result<pb::ConvertConditionResponse, Error> {
    use pb::convert_condition_request::Condition;
    match request.condition {
        Some(Condition::Text(text)) => {
            let structured = Structured::of_text(&text).map_err(|it| refused("text", &it))?;
            let group = structured.map(|it| group(into_group(it)));
            Ok(pb::ConvertConditionResponse { text, group })
        }
        Some(Condition::Group(message)) => {
            let structured = read_group("group", message, 0)?;
            let text = structured.to_text().map_err(|it| refused("group", &it))?;
            // As it reads again: a group of one part is that part.
            let again = Structured::of_text(&text).map_err(|it| refused("group", &it))?;
            let group = again.map(|it| group(into_group(it)));
            Ok(pb::ConvertConditionResponse { text, group })
        }
        None => Err(Error::invalid("condition", "missing; wanted `text` or `group`")),
    }
}

fn refused(field: &str, problems: &Problems) -> Error {
    Error::Invalid(problems.messages().map(|message| Invalid::new(field, message)).collect())
}

/// A test by itself is a group of one.
fn into_group(structured: Structured) -> (bool, Vec<Structured>) {
    match structured {
        Structured::Group { all, parts } => (all, parts),
        test @ Structured::Test(_) => (true, vec![test]),
    }
}

/// Recursion is bounded by the depth of a condition.
fn group((all, parts): (bool, Vec<Structured>)) -> pb::ConditionGroup {
    use pb::{condition_group::Join, condition_part::Part};
    let part = |it: Structured| {
        let part = match it {
            Structured::Group { all, parts } => Part::Group(group((all, parts))),
            Structured::Test(found) => Part::Test(test(found)),
        };
        pb::ConditionPart { part: Some(part) }
    };
    let join = if all { Join::And } else { Join::Or };
    pb::ConditionGroup { join: join.into(), parts: parts.into_iter().map(part).collect() }
}

fn test(found: FieldTest) -> pb::FieldTest {
    use pb::{field_test::Operator, field_value::Value};
    let operator = match found.operator {
        TestOperator::Equal => Operator::Equal,
        TestOperator::NotEqual => Operator::NotEqual,
        TestOperator::Less => Operator::Less,
        TestOperator::AtMost => Operator::AtMost,
        TestOperator::Greater => Operator::Greater,
        TestOperator::AtLeast => Operator::AtLeast,
        TestOperator::In => Operator::In,
        TestOperator::Contains => Operator::Contains,
        TestOperator::StartsWith => Operator::StartsWith,
        TestOperator::EndsWith => Operator::EndsWith,
        TestOperator::Exists => Operator::Exists,
        TestOperator::NotExists => Operator::NotExists,
    };
    let value = |it: Scalar| {
        let value = match it {
            Scalar::Text(it) => Value::Text(it),
            Scalar::Whole(value) => Value::Whole(value),
            Scalar::Double(value) => Value::Number(value),
            Scalar::Bool(value) => Value::Boolean(value),
            Scalar::Time(written) => match Timestamp::parse_rfc3339(&written) {
                Ok(time) => Value::Time(to_proto::timestamp(time)),
                Err(_no_moment) => Value::Text(written),
            },
        };
        pb::FieldValue { value: Some(value) }
    };
    pb::FieldTest {
        field: found.field,
        operator: operator.into(),
        values: found.values.into_iter().map(value).collect(),
    }
}

fn read_group(at: &str, message: pb::ConditionGroup, level: usize) -> Result<Structured, Error> {
    use pb::{condition_group::Join, condition_part::Part};
    if level > limits::CONDITION_DEPTH_MAX {
        let message = format!("more than {} levels", limits::CONDITION_DEPTH_MAX);
        return Err(Error::invalid(at, message));
    }
    let all = match from_proto::enumeration(&format!("{at}.join"), message.join)? {
        Join::Unspecified | Join::And => true,
        Join::Or => false,
    };
    let mut parts = Vec::with_capacity(message.parts.len());
    for (index, part) in message.parts.into_iter().enumerate() {
        let at = format!("{at}.parts[{index}]");
        parts.push(match part.part {
            Some(Part::Group(found)) => read_group(&format!("{at}.group"), found, level + 1)?,
            Some(Part::Test(found)) => Structured::Test(read_test(&format!("{at}.test"), found)?),
            None => return Err(Error::invalid(at, "missing; wanted `group` or `test`")),
        });
    }
    Ok(Structured::Group { all, parts })
}

fn read_test(at: &str, message: pb::FieldTest) -> Result<FieldTest, Error> {
    use pb::{field_test::Operator, field_value::Value};
    let field = format!("{at}.operator");
    let operator = match from_proto::enumeration(&field, message.operator)? {
        Operator::Unspecified => return Err(Error::invalid(field, "missing")),
        Operator::Equal => TestOperator::Equal,
        Operator::NotEqual => TestOperator::NotEqual,
        Operator::Less => TestOperator::Less,
        Operator::AtMost => TestOperator::AtMost,
        Operator::Greater => TestOperator::Greater,
        Operator::AtLeast => TestOperator::AtLeast,
        Operator::In => TestOperator::In,
        Operator::Contains => TestOperator::Contains,
        Operator::StartsWith => TestOperator::StartsWith,
        Operator::EndsWith => TestOperator::EndsWith,
        Operator::Exists => TestOperator::Exists,
        Operator::NotExists => TestOperator::NotExists,
    };
    let mut values = Vec::with_capacity(message.values.len());
    for (index, value) in message.values.into_iter().enumerate() {
        let at = format!("{at}.values[{index}]");
        values.push(match value.value {
            Some(Value::Text(text)) => Scalar::Text(text),
            Some(Value::Whole(value)) => Scalar::Whole(value),
            Some(Value::Number(value)) if value.is_finite() => Scalar::Double(value),
            Some(Value::Number(value)) => {
                return Err(Error::invalid(at, format!("{value} is no number")));
            }
            Some(Value::Boolean(value)) => Scalar::Bool(value),
            Some(Value::Time(time)) => Scalar::Time(from_proto::timestamp(&at, &time)?.to_string()),
            None => return Err(Error::invalid(at, "missing")),
        });
    }
    Ok(FieldTest { field: message.field, operator, values })
}
