"""Drives a Milepost server through everything it promises, from outside.

    python scenario.py ADDRESS --xdm DIR [--generated N] [--seed N] [--state FILE]
    python scenario.py ADDRESS --resume-check FILE

The second form checks, on a server that was ended in any way and started again, that it still
holds what the first form has left in FILE. Ends with status 0 only if everything held.
"""

import argparse
import collections
import hashlib
import json
import threading
import time

from milepost import Api, Error, from_status
from payloads import SCHEMAS, Library, Payloads, Sent, generated, nanoseconds

CONNECTIONS = 8
GENERATED = "generated"
LAST_TYPE = "scenario.last"


def say(what, since=None):
    took = f" in {time.monotonic() - since:.1f} s" if since is not None else ""
    print(what + took, flush=True)


def check(condition, what):
    if not condition:
        raise SystemExit(f"FAILED: {what}")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Scenario:
    def __init__(self, address):
        self.api = Api(address)
        self.stored = {}  # position -> Sent
        self.lock = threading.Lock()

    # Building requests.

    def append_request(self, dataset, texts, **rest):
        event = self.api.message("Event")
        request = self.api.message("AppendEventsRequest")
        return request(dataset=dataset, events=[event(json=it) for it in texts], **rest)

    def filter(self, identities=(), **rest):
        identity = self.api.message("Identity")
        identities = [identity(namespace=namespace, id=it) for namespace, it in identities]
        return self.api.message("EventFilter")(identities=identities, **rest)

    def read(self, filter=None, **rest):
        request = self.api.message("ReadEventsRequest")(filter=filter, **rest)
        return [it for page in self.api.call("EventService/ReadEvents", request) for it in page.events]

    def count(self, filter):
        request = self.api.message("CountEventsRequest")(filter=filter)
        return self.api.call("EventService/CountEvents", request).count

    # The steps.

    def meet(self):
        services = [it for it in self.api.services if it.startswith("milepost.v1.")]
        say(f"reflection: {len(services)} services of milepost.v1")
        check("milepost.v1.EventService" in services, services)
        health = self.api.message("grpc.health.v1.HealthCheckRequest")()
        answer = self.api.call("grpc.health.v1.Health/Check", health)
        check(answer.status == 1, "health is SERVING")

    def built_in(self):
        request = self.api.message("ListSchemasRequest")(page_size=1000)
        listed = self.api.call("SchemaService/ListSchemas", request)
        check(not listed.next_page_token, "built-in schemas fit one page")
        return {it.id for it in listed.schemas if it.built_in}

    def register(self, library, roots):
        since = time.monotonic()
        order, circles = library.closure(roots)
        check(not circles, f"documents in a circle: {circles}")
        there = self.built_in()
        request = self.api.message("RegisterSchemaRequest")
        missing = [it for it in order if it not in there]
        for schema_id in missing:
            # Some schemas of the test data put every group beside any class, which XDM does not allow.
            document = json.loads(library.document(schema_id))
            document.pop("meta:intendedToExtend", None)
            answer = self.api.call(
                "SchemaService/RegisterSchema", request(document=json.dumps(document))
            )
            check(answer.created and answer.schema.id == schema_id, f"registered {schema_id}")
        say(f"schemas: {len(missing)} registered, {len(order) - len(missing)} built in", since)

    def create(self, datasets):
        request = self.api.message("CreateDatasetRequest")
        dataset = self.api.message("Dataset")
        for name, schema_id in sorted(datasets.items()):
            self.api.call(
                "DatasetService/CreateDataset",
                request(dataset=dataset(name=name, schema_id=schema_id)),
            )

    def append(self, api, batch):
        """Appends one atomic batch and remembers where it went."""
        request = self.append_request(batch[0].dataset, [it.text for it in batch])
        answer = api.call("EventService/AppendEvents", request)
        positions = [it.position for it in answer.results]
        first = positions[0]
        check(
            positions == list(range(first, first + len(batch))),
            f"an atomic batch has contiguous positions, not {positions}",
        )
        check(all(it.outcome == 1 for it in answer.results), "a new event is APPENDED")
        check(answer.durable_position >= positions[-1], "what is answered is durable")
        with self.lock:
            for position, sent in zip(positions, batch):
                check(position not in self.stored, f"position {position} was given twice")
                self.stored[position] = sent

    def append_payloads(self, payloads):
        since = time.monotonic()
        for batch in batches(payloads.valid, 100):
            self.append(self.api, batch)
        by_dataset = collections.Counter(it.dataset for it in payloads.valid)
        say(f"payloads: {len(payloads.valid)} valid events appended {dict(by_dataset)}", since)
        say(f"  {payloads.filled} of edge-any had `_id` or `timestamp` filled in, as an SDK does")
        say(f"  {payloads.profiles} profile records left out: not events")

    def refuse_invalid(self, payloads):
        """Every payload that must be refused is, at a place that the data names."""
        since, exact = time.monotonic(), 0
        by_dataset = collections.defaultdict(list)
        for it in payloads.invalid:
            by_dataset[it[0]].append(it)
        for dataset, entries in by_dataset.items():
            for group in batches(entries, 100):
                request = self.append_request(dataset, [it[1] for it in group], mode=2)
                answer = self.api.call("EventService/AppendEvents", request)
                for (_, text, errors, file), result in zip(group, answer.results):
                    check(result.outcome == 4, f"{file}: must be refused: {text[:200]}")
                    error = from_status(result.error)
                    check(error.code == "INVALID_ARGUMENT", f"{file}: {error}")
                    check(error.domain == "milepost", f"{file}: {error}")
                    check(error.reason in ("EVENT_INVALID", "EVENT_VIOLATES_SCHEMA"), error.reason)
                    found = {field.split("payload", 1)[1] for field, _ in error.fields}
                    recorded = {it["at"] for it in errors}
                    check(found & recorded, f"{file}: found {found}, recorded {recorded}")
                    exact += found == recorded
        total = len(payloads.invalid)
        say(f"payloads: {total} invalid events refused, each at a recorded place", since)
        say(f"  for {exact} of them the places are exactly the recorded ones")

    def storm(self, events):
        """Eight connections append while others follow."""
        since = time.monotonic()
        first_person = next(it.identities[0] for it in events if it.identities)
        filters = {
            "all": self.filter(),
            "by type": self.filter(event_types=["commerce.*", LAST_TYPE]),
            "by identity": self.filter([first_person[:2], ("Last", "last")]),
        }
        follows = {name: Follow(self.api.address, self, it) for name, it in filters.items()}
        shares = [events[n::CONNECTIONS] for n in range(CONNECTIONS)]
        failures = []

        def write(share, number):
            try:
                api = Api(self.api.address)
                sizes = [1, 7, 40, 200, 1, 1, 13]
                while share:
                    size = sizes[(number := number + 1) % len(sizes)]
                    self.append(api, share[:size])
                    share = share[size:]
                api.close()
            except BaseException as failure:  # noqa: BLE001  (told below)
                failures.append(failure)

        writers = [
            threading.Thread(target=write, args=(share, number)) for number, share in enumerate(shares)
        ]
        for it in writers:
            it.start()
        for it in writers:
            it.join()
        check(not failures, failures)
        last = json.dumps(
            {
                "_id": "the-last-event",
                "timestamp": "2026-11-23T00:00:00Z",
                "eventType": LAST_TYPE,
                "identityMap": {"Last": [{"id": "last"}]},
            }
        )
        self.append(self.api, [Sent(GENERATED, last)])
        say(f"generated: {len(events)} events appended on {CONNECTIONS} connections", since)
        wanted = {
            "all": lambda it: True,
            "by type": lambda it: it.type.startswith("commerce.") or it.type == LAST_TYPE,
            "by identity": lambda it: first_person[:2] in [i[:2] for i in it.identities]
            or it.type == LAST_TYPE,
        }
        for name, follow in follows.items():
            seen = follow.finish()
            expected = [p for p in sorted(self.stored) if wanted[name](self.stored[p])]
            check([it.position for it in seen] == expected, f"follow {name}: another sequence")
            for event in seen:
                self.check_event(event)
            say(f"follow {name}: {len(seen)} events, nothing lost, nothing twice")

    def check_event(self, event):
        """A recorded event is what was sent, and what can be read from it."""
        sent = self.stored[event.position]
        at = f"position {event.position}"
        check(event.event.json == sent.text, f"{at}: not byte for byte")
        check(event.dataset == sent.dataset, f"{at}: dataset")
        check(event.event_id == sent.id, f"{at}: event_id")
        check(event.event_type == sent.type, f"{at}: event_type")
        identities = [(it.namespace, it.id, it.primary) for it in event.identities]
        check(identities == sent.identities, f"{at}: {identities} is not {sent.identities}")
        time = event.event_time.seconds * 10**9 + event.event_time.nanos
        check(time == nanoseconds(sent.timestamp), f"{at}: event_time of {sent.timestamp}")

    def read_back(self):
        since = time.monotonic()
        last = len(self.stored)
        check(sorted(self.stored) == list(range(1, last + 1)), "positions are dense from 1")
        events = self.read()
        check([it.position for it in events] == list(range(1, last + 1)), "a full read is dense")
        for event in events:
            self.check_event(event)
        times = [(it.record_time.seconds, it.record_time.nanos) for it in events]
        check(times == sorted(times), "record time never decreases")
        check(len({(it.dataset, it.event_id) for it in events}) == last, "no event twice")
        check(self.count(self.filter()) == last, "count of all")
        say(f"read: {last} events forward, byte for byte", since)
        since = time.monotonic()
        backward = self.read(direction=2)
        check(backward == events[::-1], "backward is forward reversed")
        say(f"read: {last} events backward", since)

    def compare(self, label, filter, wanted):
        positions = [it.position for it in self.read(filter, payload_format=3)]
        if positions != wanted:
            missing = sorted(set(wanted) - set(positions))
            extra = sorted(set(positions) - set(wanted))
            again = [it.position for it in self.read(filter, payload_format=3)] == wanted
            check(False, f"{label}: read; missing {missing}, extra {extra}; right again: {again}")
        check(self.count(filter) == len(wanted), f"{label}: count")

    def read_by(self):
        """By each identity and namespace, each type, each prefix, each dataset."""
        by = collections.defaultdict(lambda: collections.defaultdict(list))
        for position in sorted(self.stored):
            sent = self.stored[position]
            by["dataset"][sent.dataset].append(position)
            if sent.type:
                by["type"][sent.type].append(position)
            parts = sent.type.split(".")
            for depth in range(1, len(parts)):
                by["prefix"][".".join(parts[:depth]) + ".*"].append(position)
            for namespace, value, _ in sent.identities:
                by["identity"][namespace, value].append(position)
            for namespace in {it[0] for it in sent.identities}:
                by["namespace"][namespace].append(position)
        make = {
            "dataset": lambda it: self.filter(datasets=[it]),
            "type": lambda it: self.filter(event_types=[it]),
            "prefix": lambda it: self.filter(event_types=[it]),
            "identity": lambda it: self.filter([it]),
            "namespace": lambda it: self.filter([(it, "")]),
        }
        for kind, values in by.items():
            since = time.monotonic()
            for value, wanted in values.items():
                self.compare(f"{kind} {value}", make[kind](value), wanted)
            say(f"read by {kind}: {len(values)} values, reads and counts agree", since)

    def retry(self):
        """A retry of anything, in any grouping, is answered with the first positions."""
        since = time.monotonic()
        positions = sorted(self.stored)
        for group in batches(positions, 500):
            by_dataset = collections.defaultdict(list)
            for position in group:
                by_dataset[self.stored[position].dataset].append(position)
            for dataset, wanted in by_dataset.items():
                texts = [self.stored[it].text for it in wanted]
                answer = self.api.call(
                    "EventService/AppendEvents", self.append_request(dataset, texts)
                )
                check([it.position for it in answer.results] == wanted, "a retry moves nothing")
                check(all(it.outcome == 2 for it in answer.results), "a retry is DUPLICATE")
        say(f"retry: {len(positions)} events, all DUPLICATE at their first positions", since)

    def one_by_one(self):
        since = time.monotonic()
        sample = sorted(self.stored)[:: max(1, len(self.stored) // 200)]
        request, key = self.api.message("GetEventRequest"), self.api.message("EventKey")
        took = []
        for position in sample:
            sent = self.stored[position]
            by_id = request(event=key(dataset=sent.dataset, event_id=sent.id))
            for it in (request(position=position), by_id):
                asked = time.monotonic()
                answer = self.api.call("EventService/GetEvent", it)
                took.append(time.monotonic() - asked)
                self.check_event(answer.event)
        # A server that lets the kernel gather small packets answers 40 ms late.
        median = sorted(took)[len(took) // 2]
        check(median < 0.025, f"one event takes {median * 1000:.1f} ms: answers are held back")
        try:
            self.api.call("EventService/GetEvent", request(position=len(self.stored) + 1))
            check(False, "an event beyond the last one was found")
        except Error as error:
            check((error.code, error.reason) == ("NOT_FOUND", "EVENT_NOT_FOUND"), error)
        say(f"get: {len(sample)} events by position and by id", since)

    # The state between two runs.

    def save(self, path):
        rows = [[p, it.dataset, it.id, digest(it.text)] for p, it in sorted(self.stored.items())]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(rows, file)

    def resume_check(self, path):
        since = time.monotonic()
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)
        events = [[it.position, it.dataset, it.event_id, digest(it.event.json)] for it in self.read()]
        check(events == rows, "the log is not what it was")
        say(f"resume: {len(rows)} events are what they were", since)


class Follow:
    """Follows on its own connection and thread, until the scenario's last event."""

    def __init__(self, address, scenario, filter):
        self.events, self.failure, self.started = [], None, threading.Event()
        self.api = Api(address)
        start = scenario.api.message("Start")
        request = scenario.api.message("FollowEventsRequest")(filter=filter)
        request.start.CopyFrom(start(after_position=0))
        self.stream = self.api.call("EventService/FollowEvents", request, timeout=900)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        check(self.started.wait(60), "a follow says Started")

    def run(self):
        try:
            for response in self.stream:
                kind = response.WhichOneof("message")
                if kind == "started":
                    self.started.set()
                elif kind == "ending":
                    raise RuntimeError(f"the server ended a follow: {response}")
                elif kind == "events":
                    self.events += response.events.events
                    if self.events[-1].event_type == LAST_TYPE:
                        return
        except BaseException as failure:  # noqa: BLE001  (told by `finish`)
            self.failure = failure

    def finish(self):
        self.thread.join(300)
        check(not self.thread.is_alive(), "a follow never saw the last event")
        check(self.failure is None, f"follow: {self.failure}")
        self.stream.cancel()
        self.api.close()
        return self.events


def batches(items, size):
    """Runs of at most `size`, each of one dataset where items have one."""
    batch = []
    for item in items:
        other = batch and isinstance(item, Sent) and item.dataset != batch[0].dataset
        if other or len(batch) == size:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--xdm")
    parser.add_argument("--generated", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--state")
    parser.add_argument("--resume-check")
    arguments = parser.parse_args()
    scenario = Scenario(arguments.address)
    scenario.meet()
    if arguments.resume_check:
        scenario.resume_check(arguments.resume_check)
        return
    since = time.monotonic()
    library = Library(arguments.xdm)
    payloads = Payloads(library)
    schemas = {**payloads.datasets, GENERATED: SCHEMAS + "event-any"}
    say(f"seed {arguments.seed}")
    scenario.register(library, sorted(set(schemas.values())))
    scenario.create(schemas)
    scenario.append_payloads(payloads)
    scenario.refuse_invalid(payloads)
    scenario.storm(list(generated(arguments.seed, arguments.generated, GENERATED)))
    scenario.read_back()
    scenario.read_by()
    scenario.one_by_one()
    scenario.retry()
    scenario.read_back()
    if arguments.state:
        scenario.save(arguments.state)
    say("ALL HELD", since)


if __name__ == "__main__":
    main()
