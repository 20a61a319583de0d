//! Every bound of the system, each with its reason.

use std::time::Duration;

/// Bytes of one request as it arrives, and of one response. Bounds what a connection can make the
/// server hold; 16 MiB is the contract's figure.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events in one append. Keeps one commit group within a few tens of milliseconds.
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// Bytes of one payload. 10 KiB is typical; a batch of one must still fit one request.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Levels of nesting in a payload or a schema document. Bounds recursion on a 2 MiB thread stack.
pub const JSON_DEPTH_MAX: usize = 64;
/// Bytes of an event id. An index row holds it.
pub const EVENT_ID_BYTES_MAX: usize = 1024;
/// Bytes of an event type.
pub const EVENT_TYPE_BYTES_MAX: usize = 256;
/// Identities of one event; XDM's figure.
pub const EVENT_IDENTITIES_MAX: usize = 20;
/// Bytes of an identity's id; XDM's figure.
pub const IDENTITY_ID_BYTES_MAX: usize = 1024;
/// Bytes of a namespace code.
pub const NAMESPACE_CODE_BYTES_MAX: usize = 64;
/// Bytes of a dataset's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a schema's `$id`.
pub const SCHEMA_ID_BYTES_MAX: usize = 1024;
/// Bytes of one schema document. The largest of the public XDM library has 0.2 MiB.
pub const SCHEMA_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a schema with all that it refers to as one document. It must fit one response; the richest of
/// XDM's takes 0.8 MiB.
pub const RESOLVED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Fields in a schema's summary. It must fit one response.
pub const SUMMARY_FIELDS_MAX: usize = 20_000;
/// Documents that one schema may refer to, directly or through others. Bounds one compilation.
pub const SCHEMA_CLOSURE_MAX: usize = 2_000;
/// Documents in one import. The whole public XDM library has 949.
pub const IMPORT_DOCUMENTS_MAX: usize = 2_000;
/// Documents looked at in one import, one counting once for each that refers to it; the public
/// XDM library has 5 078. Bounds how long one import works.
pub const IMPORT_WORK_MAX: usize = 100_000;
/// Ways in which schemas come to apply to one value. Each is followed at every such value, so thirty
/// documents that each include the next one twice would take years; the richest of XDM has 173.
pub const SCHEMA_PATHS_MAX: usize = 10_000;
/// Schemas in a chain that all apply to one value, each through the one before. Bounds recursion on
/// a 2 MiB thread stack; the longest of XDM has 11.
pub const SCHEMA_CHAIN_MAX: usize = 64;
/// Changes that are told of one new version, the breaking ones first.
pub const SCHEMA_CHANGES_MAX: usize = 1_000;
/// Schemas looked at while two versions are compared, one counting again at each place where others
/// apply with it; beyond them the change is taken as breaking. The richest of XDM needs some 10 000.
pub const EVOLUTION_STEPS_MAX: usize = 1_000_000;
/// Values in one made instance.
pub const SAMPLE_VALUES_MAX: usize = 10_000;
/// Schemas in one union.
pub const UNION_SCHEMAS_MAX: usize = 1_000;
/// Fields in one union; the text of one takes some 300 bytes, and all must fit one response.
pub const UNION_FIELDS_MAX: usize = 30_000;
/// Values visited while judging one event, a value counting once for each schema that looks into it.
pub const JUDGE_STEPS_MAX: u32 = 10_000_000;
/// Schemas looked at while one event is turned from one form into the other, or a schema is summarized.
pub const FORM_STEPS_MAX: u32 = 5_000_000;
/// Places of a schema's events of which the described keys are kept; beyond them they are found again.
pub const DESCRIBED_PLACES_MAX: usize = 10_000;
/// Bytes of stack that judging one event may take. Threads have 2 MiB; real events take a tenth.
pub const JUDGE_STACK_BYTES_MAX: usize = 1024 * 1024;
/// Batches above 32 KiB that are judged at a time, for each core. A tree of values takes up to 16
/// times its text; twice the cores, so that one slow batch does not hold up all others.
pub const JUDGES_PER_CORE: usize = 2;
/// Bytes of what is said about all events of a batch; beyond them only the first violation of each
/// event is told. Ten thousand events with a hundred violations each would take 400 MB.
pub const BATCH_VIOLATION_BYTES: usize = 1024 * 1024;
/// Bytes of a violation's path; a longer one is cut at a level. A key may have a megabyte.
pub const VIOLATION_PATH_BYTES_MAX: usize = 1024;
/// Bytes of a violation's message.
pub const MESSAGE_BYTES_MAX: usize = 300;
/// Versions of schema documents in the store.
pub const SCHEMAS_MAX: usize = 20_000;
/// Descriptors in the store. The Experience Platform's figure.
pub const DESCRIPTORS_MAX: usize = 4_000;
/// Descriptors in one import.
pub const IMPORT_DESCRIPTORS_MAX: usize = 4_000;
/// Bytes of a descriptor's path.
pub const DESCRIPTOR_PATH_BYTES_MAX: usize = 1024;
/// Languages of a field's friendly name.
pub const DESCRIPTOR_LANGUAGES_MAX: usize = 64;
/// Labels of one field.
pub const DESCRIPTOR_LABELS_MAX: usize = 32;
/// Bytes of one text for people in a descriptor.
pub const DESCRIPTOR_TEXT_BYTES_MAX: usize = 1024;
/// Records of forced changes that are kept, the newest.
pub const AUDIT_RECORDS_MAX: usize = 1_000;
/// Stored events of one dataset that are judged by a schema to be.
pub const HISTORY_EVENTS_MAX: u32 = 100_000;
/// Datasets in the store.
pub const DATASETS_MAX: usize = 10_000;
/// Event definitions in the store.
pub const EVENT_DEFINITIONS_MAX: usize = 10_000;
/// Versions of one event definition: changes of what it matches or delivers, pauses among them.
pub const EVENT_DEFINITION_VERSIONS_MAX: usize = 1_000;
/// Fields that one event definition selects.
pub const EVENT_DEFINITION_FIELDS_MAX: usize = 256;
/// Users that one event definition names, such as journeys.
pub const EVENT_DEFINITION_USERS_MAX: usize = 100;
/// Events on which a definition is tried in one call.
pub const TRIAL_EVENTS_MAX: usize = 1_000;
/// Events from before a definition was in force that it may match; 8 bytes of memory each.
pub const BACKFILL_MATCHES_MAX: usize = 1_000_000;
/// Seconds within which matches of a business event are taken for one, at most: a day.
pub const COALESCING_SECONDS_MAX: u64 = 24 * 60 * 60;
/// Custom namespaces in the store.
pub const NAMESPACES_MAX: usize = 10_000;
/// Violations reported for one event, or one batch. An error must fit its headers.
pub const VIOLATIONS_MAX: usize = 100;
/// Compiled schemas kept; a compiled XDM schema can take megabytes.
pub const COMPILED_SCHEMAS_MAX: usize = 256;
/// Steps a look-around pattern may backtrack before the event is refused.
pub const PATTERN_BACKTRACK_MAX: usize = 100_000;
/// Bytes of one compiled pattern.
pub const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Seconds of a dataset's shortest retention by age. Shorter would be no store.
pub const RETENTION_AGE_SECONDS_MIN: u64 = 1;
/// Seconds of a dataset's longest retention by age: 100 years.
pub const RETENTION_AGE_SECONDS_MAX: u64 = 36_525 * 24 * 60 * 60;
/// Seconds for which a dataset's duplicates are found at least, if it says for how long: the time of a retry.
pub const DEDUPE_HORIZON_SECONDS_MIN: u64 = 1;
/// Seconds for which they are found at most, if it says for how long: 100 years.
pub const DEDUPE_HORIZON_SECONDS_MAX: u64 = 36_525 * 24 * 60 * 60;
/// Bytes of events that are set aside, unless configured otherwise; of more the oldest go.
pub const QUARANTINE_BYTES: u64 = 1024 * 1024 * 1024;
/// Events that are set aside; of more the oldest go. By what each is found again is in memory: some 50 MB.
pub const QUARANTINE_EVENTS_MAX: u64 = 2_000_000;
/// Seconds that an event is set aside, unless configured otherwise: 7 days.
pub const QUARANTINE_AGE_SECONDS: u64 = 7 * 24 * 60 * 60;
/// Violations that are kept of an event that is set aside or tagged.
pub const QUARANTINE_VIOLATIONS_MAX: usize = 50;
/// Bytes that an event that is set aside is taken to hold beside its payload and violations.
pub const QUARANTINE_OVERHEAD_BYTES: usize = 256;
/// Refused events that are remembered, the last ones: some 5 MB.
pub const REFUSALS_MAX: usize = 10_000;
/// Seconds of a dataset's narrowest bound on the times of its events.
pub const TIMESTAMP_BOUND_SECONDS_MIN: u64 = 1;
/// Seconds of a dataset's widest bound on the times of its events: 100 years.
pub const TIMESTAMP_BOUND_SECONDS_MAX: u64 = 36_525 * 24 * 60 * 60;
/// Seconds between two looks at what retention removes, unless configured otherwise.
pub const RETENTION_INTERVAL_SECONDS: u64 = 10;
/// Items in one page of a list.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Items in one page of a list when the request names none.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Values in one filter. Each can cost one index lookup per segment.
pub const FILTER_VALUES_MAX: usize = 1_000;
/// Conditions of one append.
pub const CONDITIONS_MAX: usize = 16;
/// Index entries looked at to decide one append's conditions. Bounds how long one append can hold up
/// the others.
pub const CONDITION_ENTRIES_MAX: u64 = 10_000;
/// Bytes of a condition's text.
pub const CONDITION_BYTES_MAX: usize = 4 * 1024;
/// Parts of a condition: names, values, operators, calls. Bounds what a definition holds and costs.
pub const CONDITION_NODES_MAX: usize = 512;
/// Levels of parts within parts of a condition. Bounds recursion on a 2 MiB thread stack.
pub const CONDITION_DEPTH_MAX: usize = 48;
/// Loops (`all`, `exists`, `filter`, `map`) within each other in a condition: each multiplies the steps.
pub const CONDITION_LOOPS_MAX: usize = 2;
/// Elements of a list that a condition spells out.
pub const CONDITION_LIST_MAX: usize = 256;
/// Steps of one evaluation of a condition, an element of a list or 64 bytes of text counting as one. A
/// typical condition takes ten.
pub const CONDITION_STEPS_MAX: u32 = 10_000;
/// Bytes of one compiled pattern of a condition.
pub const CONDITION_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Packed log blocks and rows of the index kept in memory, unless configured otherwise.
pub const CACHE_BYTES: u64 = 96 * 1024 * 1024;
/// Bytes of appends waiting for the sequencer, unless configured otherwise. Some seconds of work for
/// a slow disk.
pub const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Positions in a volume before the next one is begun: what is rewritten at a time when space is
/// given back, some 200 MB.
pub const VOLUME_EVENTS: u64 = 1024 * 1024;
/// Events indexed in memory before they become a segment: some 20 MB, and, with the frozen tails,
/// what a restart reads again at worst.
pub const INDEX_TAIL_EVENTS: u64 = 64 * 1024;
/// Bytes of the data directory's disk that stay free, unless configured otherwise: the queue, the
/// journal (64 MiB), and as much again as both for packing, for index segments and for changes such
/// as trims.
pub const DISK_RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// Connections. Each may hold what its flow-control window lets it send ahead; twice as many would
/// meet the usual bound of 1024 open files.
pub const CONNECTIONS_MAX: usize = 512;
/// Calls under way on one connection; more wait in the client.
pub const CONNECTION_STREAMS_MAX: u32 = 256;
/// Reads and follows whose responses have not all been taken. Each holds some pages of at most about
/// 1 MiB for a client that does not take them.
pub const READERS_MAX: usize = 512;
/// Consumers of subscriptions that are connected, pulls under way among them. Each holds at most one message of
/// about 1 MiB for a client that does not take it.
pub const CONSUMERS_OPEN_MAX: usize = 4 * 1024;
/// Streams of appends open at a time. Each has up to a hundred appends under way.
pub const APPEND_STREAMS_MAX: usize = 512;
/// Appends of one stream under way at a time; a stream that sends more is read more slowly.
pub const STREAM_APPENDS_MAX: usize = 64;
/// Bytes of appends that one stream may have under way: what is in the queue while two commit groups of
/// 4 MiB are written.
pub const STREAM_CREDIT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a correlation id.
pub const CORRELATION_ID_BYTES_MAX: usize = 128;
/// Bytes of all requests under way other than appends. Their own, so that a full queue does not keep
/// readers and operators out.
pub const CALL_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of small appends that have room beside that of all appends, which large ones that arrive
/// slowly can fill.
pub const SMALL_APPENDS_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of an append that is small: a hundred typical events and more.
pub const SMALL_APPEND_BYTES: usize = 256 * 1024;
/// Bytes that a call is taken to hold beside its message.
pub const CALL_OVERHEAD_BYTES: usize = 8 * 1024;
/// Schemas that are registered at a time; the others wait. Compiling one can take megabytes.
pub const REGISTRARS_MAX: usize = 4;
/// Requests waiting for the sequencer; each is small beside its bytes.
pub const QUEUE_COMMANDS: usize = 8 * 1024;
/// Events above a subscription's floor that it knows one by one, unless its settings say otherwise. Each
/// takes some 200 bytes.
pub const WINDOW_DEFAULT: usize = 100_000;
/// The same at most.
pub const WINDOW_MAX: usize = 1_000_000;
/// Parked events of a subscription, unless its settings say otherwise. Each takes some hundred bytes
/// and what its consumers said.
pub const PARKED_DEFAULT: usize = 10_000;
/// The same at most.
pub const PARKED_MAX: usize = 100_000;
/// Consumers of one subscription. Each has a session and its leases.
pub const CONSUMERS_MAX: usize = 1_000;
/// Subscriptions in the store. Each takes some memory though nobody uses it.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Milliseconds that a buffered append may take to be durable after its answer: what a power cut can take back.
pub const BUFFERED_WINDOW_MS: u64 = 50;
/// Events that one consumer may have at a time.
pub const OUTSTANDING_EVENTS_MAX: usize = 10_000;
/// Events that one consumer may have at a time when it does not say.
pub const OUTSTANDING_EVENTS_DEFAULT: u32 = 1_000;
/// Bytes of payloads that one consumer may have at a time.
pub const OUTSTANDING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The same when it does not say.
pub const OUTSTANDING_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Events of one lane that one consumer may have at a time. A failure takes back those behind it, and
/// each is looked at when one of them changes.
pub const LANE_IN_FLIGHT_MAX: usize = 100;
/// Outcomes in one message.
pub const OUTCOMES_MAX: usize = 10_000;
/// Parked events that one call replays or discards.
pub const PARKED_CHANGE_MAX: usize = 10_000;
/// Bytes of a client's name for itself.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// Bytes of what a consumer says of an outcome; the rest is cut. Ten of them must fit one row of the
/// table.
pub const REASON_BYTES_MAX: usize = 1024;
/// The longest lease, session, and time that a lease is extended by at once.
pub const ACK_DEADLINE_MAX: Duration = Duration::from_hours(1);
/// The time within which outcomes are durable that were answered before, unless configured otherwise.
pub const ACK_FLUSH_DEFAULT: Duration = Duration::from_millis(200);
/// The shortest such time: a write of its own takes about as long.
pub const ACK_FLUSH_MIN: Duration = Duration::from_millis(1);
/// The longest such time. As much work is done again after a kill.
pub const ACK_FLUSH_MAX: Duration = Duration::from_secs(10);
/// The longest wait between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_hours(24);
/// The longest time that a pull waits.
pub const PULL_WAIT_MAX: Duration = Duration::from_mins(1);
/// The longest time after a restart in which a subscription delivers nothing.
pub const RESTART_GRACE_MAX: Duration = Duration::from_hours(1);
/// The shortest lag that a subscription may be told of, and the shortest time after which one without consumers
/// expires.
pub const UPKEEP_MIN: Duration = Duration::from_secs(1);
/// The longest of both: ten years.
pub const UPKEEP_MAX: Duration = Duration::from_hours(87_600);
/// Bytes of payloads of a dataset that retention leaves for a subscription, unless its settings say otherwise.
pub const PIN_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// Bytes of payloads of a dataset that retention leaves for a subscription, at most: 1 TiB.
pub const PIN_BYTES_MAX: u64 = 1024 * 1024 * 1024 * 1024;
/// Bytes of a subscription's description.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Failed attempts of an event that are told of, the last ones.
pub const FAILURES_KEPT: usize = 10;
/// Events for which a subscription's condition came to nothing that are told of, the last ones; and as many of
/// which no dead letter could be stored.
pub const FAULTS_KEPT: usize = 10;
/// Bytes of events that the outcomes of one message may park when a subscription stores dead letters: they
/// are written together.
pub const DEAD_LETTER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Skipped events and seeks of a subscription that are remembered, the last ones.
pub const SKIPS_KEPT: usize = 100;
/// Snapshots of a subscription. Each may hold as many positions as its window.
pub const SNAPSHOTS_MAX: usize = 16;
/// Outcomes of a subscription that are remembered, so that repeating one is not an error.
pub const OUTCOMES_KEPT: usize = 16 * 1024;

const _: () = assert!(EVENT_BYTES_MAX < REQUEST_BYTES_MAX);
const _: () = assert!(SCHEMA_BYTES_MAX < REQUEST_BYTES_MAX);
