//! From messages to the model: parsed once, every mistake reported.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytestring::ByteString;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    grpc::{conditions, pb, structs},
    model::{
        DatasetName, Direction, EventFilter, EventTypePattern, IdentityPattern, Invalid, OnInvalid,
        Position, SchemaVersions, Tagged, TimeRange, Timestamp, hex, limits, shorten,
    },
    schema::{Form, UnknownFields},
    store::{
        Admission, AgeBy, Append, AppendMode, BelowFloor, Deadline, Durability, Error, Follow,
        Payload, Read, Retention, Start, TrimBefore, Unreadable, check_batch, payload,
    },
};

pub(crate) fn append(
    request: pb::AppendEventsRequest,
    deadline: Option<Deadline>,
) -> Result<Append, Error> {
    let durability = match enumeration("durability", request.durability)? {
        pb::Durability::Unspecified | pb::Durability::Sync => Durability::Sync,
        pb::Durability::Buffered => Durability::Buffered,
    };
    let mode = match enumeration("mode", request.mode)? {
        pb::AppendMode::Unspecified | pb::AppendMode::Atomic => AppendMode::Atomic,
        pb::AppendMode::PerEvent => AppendMode::PerEvent,
    };
    let dataset = DatasetName::parse("dataset", &request.dataset)?;
    // Before converting: what is wrong with millions of events would fill the memory.
    check_batch(request.events.len())?;
    let conditions = conditions::conditions(request.conditions)?;
    let events = request.events.into_iter().map(event).collect();
    let validate_only = request.validate_only;
    let releases = Vec::new();
    let on_invalid = on_invalid("on_invalid", request.on_invalid)?;
    Ok(Append {
        dataset,
        events,
        mode,
        conditions,
        validate_only,
        deadline,
        releases,
        on_invalid,
        durability,
    })
}

/// What becomes of invalid events, if a field of the request says so.
pub(crate) fn on_invalid(field: &str, number: i32) -> Result<Option<OnInvalid>, Error> {
    Ok(match enumeration(field, number)? {
        pb::OnInvalid::Unspecified => None,
        pb::OnInvalid::Reject => Some(OnInvalid::Reject),
        pb::OnInvalid::Quarantine => Some(OnInvalid::Quarantine),
        pb::OnInvalid::Tag => Some(OnInvalid::Tag),
    })
}

/// The form that a field of the request names, if it names one.
pub(crate) fn form(field: &str, number: i32) -> Result<Option<Form>, Error> {
    Ok(match enumeration(field, number)? {
        pb::Form::Unspecified => None,
        pb::Form::Wire => Some(Form::Wire),
        pb::Form::Long => Some(Form::Long),
    })
}

/// A dataset's rule for keys that its schema does not describe.
pub(crate) fn unknown_fields(number: i32) -> Result<UnknownFields, Error> {
    Ok(match enumeration("dataset.unknown_fields", number)? {
        pb::UnknownFields::Unspecified | pb::UnknownFields::AsSchema => UnknownFields::AsSchema,
        pb::UnknownFields::Allow => UnknownFields::Allow,
        pb::UnknownFields::Refuse => UnknownFields::Refuse,
    })
}

/// The payload's JSON text.
pub(crate) fn event(event: pb::Event) -> Payload {
    match event.payload {
        Some(pb::event::Payload::Json(bytes)) => payload(bytes),
        Some(pb::event::Payload::Data(data)) => structs::to_json(&data)
            .map(ByteString::from)
            .map_err(|violation| Unreadable { bytes: None, violations: vec![*violation] }),
        None => {
            let message = "the event has no payload; wanted `json` or `data`";
            Err(Unreadable::without_bytes("required", message.to_owned()))
        }
    }
}

pub(crate) fn read(request: pb::ReadEventsRequest) -> Result<Read, Error> {
    let direction = match enumeration("direction", request.direction)? {
        pb::Direction::Unspecified | pb::Direction::Forward => Direction::Forward,
        pb::Direction::Backward => Direction::Backward,
    };
    Ok(Read {
        filter: filter(request.filter)?,
        after: Position::new(request.after),
        before: Position::new(request.before),
        direction,
        limit: if request.limit == 0 { u64::MAX } else { request.limit },
        below_floor: below_floor(request.below_floor)?,
    })
}

fn below_floor(number: i32) -> Result<BelowFloor, Error> {
    Ok(match enumeration("below_floor", number)? {
        pb::BelowFloor::Unspecified | pb::BelowFloor::Fail => BelowFloor::Fail,
        pb::BelowFloor::Clamp => BelowFloor::Clamp,
    })
}

const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(10);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_mins(1);

pub(crate) fn follow(request: pb::FollowEventsRequest) -> Result<Follow, Error> {
    Ok(Follow {
        filter: filter(request.filter)?,
        start: start(request.start)?,
        heartbeat_interval: heartbeat(request.heartbeat_interval)?,
        below_floor: below_floor(request.below_floor)?,
    })
}

/// An etag; an empty one is not checked.
pub(crate) fn etag(etag: String) -> Option<String> {
    Some(etag).filter(|etag| !etag.is_empty())
}

/// A duration, if there is one; the bounds are the store's.
pub(crate) fn duration(
    field: &str,
    age: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Error> {
    let Some(age) = age else { return Ok(None) };
    let shown = format!("{} s and {} ns", age.seconds, age.nanos);
    let message = format!("{shown}; wanted a duration that is not negative");
    span(age).map(Some).ok_or_else(|| Error::invalid(field, message))
}

/// A duration that is one, and not negative. The conversion of the type's own crate does not end well for
/// the most negative numbers.
fn span(duration: prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(duration.nanos).ok().filter(|it| *it < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

/// What a dataset asks of appends; the bounds are the store's.
pub(crate) fn admission(dataset: &pb::Dataset) -> Result<Admission, Error> {
    let (max_age, max_ahead) = timestamps(dataset)?;
    let (max_event_bytes, max_batch_events, max_events_per_second) = dataset_limits(dataset);
    Ok(Admission { max_age, max_ahead, max_event_bytes, max_batch_events, max_events_per_second })
}

/// For how long a dataset finds duplicates; the bounds are the store's.
pub(crate) fn dedupe_horizon(dataset: &pb::Dataset) -> Result<Option<Duration>, Error> {
    duration("dataset.dedupe_horizon", dataset.dedupe_horizon)
}

/// How old, and how far ahead, events may be.
pub(crate) fn timestamps(
    dataset: &pb::Dataset,
) -> Result<(Option<Duration>, Option<Duration>), Error> {
    let policy = dataset.timestamps.unwrap_or_default();
    Ok((
        duration("dataset.timestamps.max_age", policy.max_age)?,
        duration("dataset.timestamps.max_ahead", policy.max_ahead)?,
    ))
}

/// Bytes of an event, events of an append, events in a second.
pub(crate) fn dataset_limits(dataset: &pb::Dataset) -> (u32, u32, u32) {
    let limits = dataset.limits.unwrap_or_default();
    (limits.max_event_bytes, limits.max_batch_events, limits.max_events_per_second)
}

/// A dataset's retention; the bounds are the store's.
pub(crate) fn retention(retention: Option<pb::Retention>) -> Result<Retention, Error> {
    let Some(retention) = retention else { return Ok(Retention::default()) };
    Ok(Retention {
        max_age: duration("dataset.retention.max_age", retention.max_age)?,
        age_by: match enumeration("dataset.retention.age_by", retention.age_by)? {
            pb::AgeBy::Unspecified | pb::AgeBy::RecordTime => AgeBy::RecordTime,
            pb::AgeBy::EventTime => AgeBy::EventTime,
        },
        max_events: retention.max_events,
        max_bytes: retention.max_bytes,
    })
}

pub(crate) fn trim_before(
    before: Option<pb::trim_dataset_request::Before>,
) -> Result<TrimBefore, Error> {
    use pb::trim_dataset_request::Before;
    Ok(match before {
        Some(Before::BeforePosition(0)) => {
            return Err(Error::invalid("before_position", "0; wanted a position from 1 on"));
        }
        Some(Before::BeforePosition(position)) => TrimBefore::Position(Position::new(position)),
        Some(Before::BeforeRecordTime(time)) => {
            TrimBefore::RecordTime(timestamp("before_record_time", &time)?)
        }
        None => {
            let wanted = "missing; wanted `before_position` or `before_record_time`";
            return Err(Error::invalid("before", wanted));
        }
    })
}

pub(crate) fn heartbeat(interval: Option<prost_types::Duration>) -> Result<Duration, Error> {
    let Some(interval) = interval else { return Ok(HEARTBEAT_DEFAULT) };
    let shown = format!("{}.{:09}", interval.seconds, interval.nanos.unsigned_abs());
    let bounds = HEARTBEAT_MIN..=HEARTBEAT_MAX;
    span(interval).filter(|it| bounds.contains(it)).ok_or_else(|| {
        let message = format!("{shown} s; wanted 1 to 60 s");
        Error::OutOfBounds(Invalid::new("heartbeat_interval", message))
    })
}

pub(crate) fn start(start: Option<pb::Start>) -> Result<Start, Error> {
    use pb::start::Start as Choice;
    Ok(match start.and_then(|it| it.start) {
        None | Some(Choice::End(_)) => Start::End,
        Some(Choice::Beginning(_)) => Start::Beginning,
        Some(Choice::AfterPosition(position)) => Start::After(Position::new(position)),
        Some(Choice::RecordTime(time)) => Start::RecordTime(timestamp("start.record_time", &time)?),
        Some(Choice::EventTime(time)) => Start::EventTime(timestamp("start.event_time", &time)?),
        Some(Choice::ResumeToken(token)) => Start::Token(token),
    })
}

pub(crate) fn filter(filter: Option<pb::EventFilter>) -> Result<EventFilter, Error> {
    filter_at("filter", filter)
}

/// A filter in a field of this path.
pub(crate) fn filter_at(at: &str, filter: Option<pb::EventFilter>) -> Result<EventFilter, Error> {
    let Some(filter) = filter else { return Ok(EventFilter::default()) };
    let values = filter.datasets.len()
        + filter.event_types.len()
        + filter.schemas.len()
        + filter.schema_versions.len()
        + filter.event_definitions.len()
        + filter.identities.len();
    if values > limits::FILTER_VALUES_MAX {
        let message = format!("{values} values; at most {}", limits::FILTER_VALUES_MAX);
        return Err(Error::OutOfBounds(Invalid::new(at, message)));
    }
    let mut invalid = Vec::new();
    let datasets =
        collect(&filter.datasets, &format!("{at}.datasets"), &mut invalid, |field, name| {
            DatasetName::parse(field, name)
        });
    let event_types =
        collect(&filter.event_types, &format!("{at}.event_types"), &mut invalid, |field, text| {
            event_type(field, text)
        });
    let identities =
        collect(&filter.identities, &format!("{at}.identities"), &mut invalid, |field, it| {
            identity(field, it)
        });
    let schema_versions = collect(
        &filter.schema_versions,
        &format!("{at}.schema_versions"),
        &mut invalid,
        schema_versions,
    );
    let event_time = range(&format!("{at}.event_time"), filter.event_time, &mut invalid);
    let record_time = range(&format!("{at}.record_time"), filter.record_time, &mut invalid);
    if !invalid.is_empty() {
        return Err(Error::Filter(invalid));
    }
    let tagged = match enumeration(&format!("{at}.tagged"), filter.tagged)? {
        pb::TaggedEvents::Unspecified | pb::TaggedEvents::LeftOut => Tagged::LeftOut,
        pb::TaggedEvents::Included => Tagged::Included,
        pb::TaggedEvents::Only => Tagged::Only,
    };
    let schemas = filter.schemas.into_iter().map(Arc::from).collect();
    Ok(EventFilter {
        tagged,
        datasets,
        event_types,
        schemas,
        schema_versions,
        event_definitions: filter.event_definitions.into_iter().map(Arc::from).collect(),
        identities,
        event_time,
        record_time,
        condition: Some(filter.r#where).filter(|it| !it.is_empty()).map(Arc::from),
        deliver_as: Some(filter.deliver_as).filter(|it| !it.is_empty()).map(Arc::from),
    })
}

fn collect<T, U>(
    values: &[T],
    field: &str,
    invalid: &mut Vec<Invalid>,
    parse: impl Fn(&str, &T) -> Result<U, Invalid>,
) -> Vec<U> {
    let mut parsed = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        match parse(&format!("{field}[{index}]"), value) {
            Ok(value) => parsed.push(value),
            Err(found) => invalid.push(found),
        }
    }
    parsed
}

pub(crate) fn event_type(field: &str, text: &str) -> Result<EventTypePattern, Invalid> {
    let most = limits::EVENT_TYPE_BYTES_MAX;
    let bad = |wanted: &str| Invalid::new(field, format!("`{}`; wanted {wanted}", shorten(text)));
    if text.is_empty() || text.len() > most {
        return Err(bad(&format!("1 to {most} bytes")));
    }
    match text.strip_suffix('*') {
        None => Ok(EventTypePattern::Exact(text.into())),
        Some(prefix) if prefix.len() > 1 && prefix.ends_with('.') => {
            Ok(EventTypePattern::Prefix(prefix.into()))
        }
        Some(_) => Err(bad("an event type, or a prefix that ends in `.*`")),
    }
}

fn schema_versions(field: &str, wanted: &pb::SchemaVersions) -> Result<SchemaVersions, Invalid> {
    let (from, to) = (wanted.from_version, wanted.to_version);
    if wanted.schema_id.is_empty() {
        return Err(Invalid::new(format!("{field}.schema_id"), "missing"));
    }
    if to > 0 && to < from {
        let message = format!("{to}; wanted {from}, which is `from_version`, or more, or 0");
        return Err(Invalid::new(format!("{field}.to_version"), message));
    }
    Ok(SchemaVersions { id: wanted.schema_id.as_str().into(), from, to: (to > 0).then_some(to) })
}

pub(crate) fn identity(field: &str, identity: &pb::Identity) -> Result<IdentityPattern, Invalid> {
    let most = limits::NAMESPACE_CODE_BYTES_MAX;
    let text = |name: &str, bytes| {
        let wrong = || Invalid::new(format!("{field}.{name}"), "not UTF-8".to_owned());
        std::str::from_utf8(bytes).map_err(|_not_utf8| wrong())
    };
    let namespace = text("namespace", &identity.namespace)?;
    let id = text("id", &identity.id)?;
    if namespace.is_empty() || namespace.len() > most || namespace.contains(char::is_control) {
        let message = format!("`{}`; wanted 1 to {most} printable bytes", shorten(namespace));
        return Err(Invalid::new(format!("{field}.namespace"), message));
    }
    if id.len() > limits::IDENTITY_ID_BYTES_MAX {
        let message = format!("{} bytes; at most {}", id.len(), limits::IDENTITY_ID_BYTES_MAX);
        return Err(Invalid::new(format!("{field}.id"), message));
    }
    Ok(IdentityPattern { namespace: namespace.into(), id: (!id.is_empty()).then(|| id.into()) })
}

/// A range of time in a field of this path.
pub(crate) fn time_range(
    field: &str,
    message: Option<pb::TimeRange>,
) -> Result<TimeRange, Vec<Invalid>> {
    let mut invalid = Vec::new();
    let found = range(field, message, &mut invalid);
    if invalid.is_empty() { Ok(found) } else { Err(invalid) }
}

fn range(field: &str, range: Option<pb::TimeRange>, invalid: &mut Vec<Invalid>) -> TimeRange {
    let Some(range) = range else { return TimeRange::default() };
    let mut bound = |name: &str, time: Option<prost_types::Timestamp>| {
        let time = time?;
        timestamp(&format!("{field}.{name}"), &time).map_err(|it| invalid.push(it)).ok()
    };
    let (start, end) = (bound("start", range.start), bound("end", range.end));
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        invalid.push(Invalid::new(field, format!("end {end} is before start {start}")));
    }
    TimeRange { start, end }
}

pub(crate) fn timestamp(field: &str, time: &prost_types::Timestamp) -> Result<Timestamp, Invalid> {
    let nanos = u32::try_from(time.nanos).ok();
    nanos.and_then(|nanos| Timestamp::new(time.seconds, nanos)).ok_or_else(|| {
        let found = format!("{} s and {} ns", time.seconds, time.nanos);
        Invalid::new(field, format!("{found}; wanted year 1 to 9999 and 0 to 999999999 ns"))
    })
}

/// An enum's value; an unknown number is an error, never the default.
pub(crate) fn enumeration<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, Error> {
    let unknown = |_| Error::invalid(field, format!("unknown value {number}"));
    E::try_from(number).map_err(unknown)
}

/// One page of a list: which items, and the token for the next.
pub(crate) struct PageRequest {
    size: usize,
    /// Items up to this key have been listed.
    after: Option<String>,
    /// Distinguishes lists, and one list's other fields.
    scope: String,
}

impl PageRequest {
    /// Parses `page_size` and `page_token`; `scope` names the list and its other fields.
    pub(crate) fn parse(size: i32, token: &str, scope: &str) -> Result<Self, Error> {
        let most = limits::PAGE_SIZE_MAX;
        let size = match usize::try_from(size) {
            Ok(0) => limits::PAGE_SIZE_DEFAULT,
            Ok(size) if size <= most => size,
            _ => {
                let message = format!("{size}; wanted 0 to {most}");
                return Err(Error::OutOfBounds(Invalid::new("page_size", message)));
            }
        };
        let after = if token.is_empty() { None } else { Some(parse_token(token, scope)?) };
        Ok(Self { size, after, scope: scope.to_owned() })
    }

    /// How many items the page may have.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The key, as bytes, up to which items have been listed.
    pub(crate) fn after_bytes(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(after) = &self.after else { return Ok(None) };
        let digits = after.as_bytes().chunks(2).map(|it| str::from_utf8(it).unwrap_or_default());
        let bytes = digits.map(|it| u8::from_str_radix(it, 16)).collect::<Result<_, _>>();
        bytes.map(Some).map_err(|_no_hex| Error::PageToken)
    }

    /// The token of the page after a key of bytes; empty when there is none.
    pub(crate) fn token_after_bytes(&self, key: Option<&[u8]>) -> String {
        key.map_or_else(String::new, |key| self.token_after(&hex(key)))
    }

    /// This page's items, in order of key, and the next page's token.
    pub(crate) fn take<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> &str,
    ) -> (Vec<T>, String) {
        let after = self.after.as_deref();
        let mut rest = items.into_iter().filter(|it| after.is_none_or(|after| key(it) > after));
        let page: Vec<T> = rest.by_ref().take(self.size).collect();
        let token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => make_token(key(last), &self.scope),
            _ => String::new(),
        };
        (page, token)
    }
}

impl PageRequest {
    /// The key of the last item that has been listed.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The token of the page after the item with this key.
    pub(crate) fn token_after(&self, key: &str) -> String {
        make_token(key, &self.scope)
    }

    /// This page's items out of ordered ones, in this direction, and the next page's token.
    pub(crate) fn cut<T>(
        &self,
        mut items: BTreeMap<String, T>,
        direction: Direction,
    ) -> (Vec<T>, String) {
        let mut page = Vec::new();
        let mut last = String::new();
        let next = |items: &mut BTreeMap<String, T>| match direction {
            Direction::Forward => items.pop_first(),
            Direction::Backward => items.pop_last(),
        };
        while let Some((key, item)) = next(&mut items) {
            let is_listed = self.after.as_ref().is_some_and(|after| match direction {
                Direction::Forward => key <= *after,
                Direction::Backward => key >= *after,
            });
            if is_listed {
                continue;
            }
            if page.len() == self.size {
                return (page, make_token(&last, &self.scope));
            }
            page.push(item);
            last = key;
        }
        (page, String::new())
    }
}

/// `[checksum of scope and key: u64][last key]`, in URL-safe base64.
fn make_token(last: &str, scope: &str) -> String {
    let checksum = xxh3_64(format!("{scope}\n{last}").as_bytes());
    let mut token = checksum.to_be_bytes().to_vec();
    token.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(token)
}

fn parse_token(token: &str, scope: &str) -> Result<String, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_malformed| Error::PageToken)?;
    let last = bytes.get(8..).unwrap_or_default().to_vec();
    let last = String::from_utf8(last).map_err(|_malformed| Error::PageToken)?;
    // Whatever was changed, the token made from it again is another.
    if make_token(&last, scope) == token { Ok(last) } else { Err(Error::PageToken) }
}
