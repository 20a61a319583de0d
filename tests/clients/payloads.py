"""Events to send: the payloads of the XDM test data, and any number that a seed makes."""

import datetime
import json
import random
import re
import uuid
from pathlib import Path

SCHEMAS = "https://ns.example.com/acme/schemas/"
TIME_SERIES = "https://ns.adobe.com/xdm/data/time-series"
DECODER = json.JSONDecoder()
SPACE = re.compile(r"[ \t\r\n]*")


class Sent:
    """One event as it is sent, and what the server must read from it."""

    def __init__(self, dataset, text):
        self.dataset = dataset
        self.text = text
        event = json.loads(text)
        self.id = event.get("_id")
        self.type = event.get("eventType", "")
        self.timestamp = event.get("timestamp")
        self.identities = identities_of(event)


def identities_of(event):
    """(namespace, id, primary), sorted, each once."""
    found = {}
    for namespace, items in event.get("identityMap", {}).items():
        for item in items:
            if item.get("id"):
                key = (namespace, item["id"])
                found[key] = found.get(key, False) or item.get("primary", False)
    return [(*key, primary) for key, primary in sorted(found.items())]


def nanoseconds(timestamp):
    """An RFC 3339 time as nanoseconds since 1970."""
    parts = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", timestamp, re.IGNORECASE)
    seconds, fraction, zone = parts.groups()
    zone = "+00:00" if zone in "Zz" else zone
    moment = datetime.datetime.fromisoformat(seconds.replace("t", "T") + zone)
    whole = int(moment.timestamp())
    return whole * 10**9 + int((fraction or "0")[:9].ljust(9, "0"))


class Library:
    """The schemas of the XDM test data in wire form."""

    def __init__(self, directory):
        self.directory = Path(directory)
        lines = (self.directory / "schemas/index.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        self.entries = {it["id"]: it for it in entries if it["form"] == "xed"}

    def document(self, schema_id):
        return (self.directory / self.entries[schema_id]["file"]).read_text()

    def closure(self, roots):
        """The roots and all they refer to, referred ones first; and what is in a circle."""
        order, circles, state = [], [], {}

        def visit(schema_id):
            if state.get(schema_id) == "open":
                circles.append(schema_id)
                return
            if schema_id in state:
                return
            state[schema_id] = "open"
            for reference in self.entries[schema_id]["refs"]:
                visit(reference)
            state[schema_id] = "done"
            order.append(schema_id)

        for root in roots:
            visit(root)
        return order, circles

    def is_time_series(self, schema_id):
        return TIME_SERIES in self.closure([schema_id])[0]


class Payloads:
    """The payload files' events as their files spell them, sorted by what is to happen to them."""

    def __init__(self, library):
        self.valid, self.invalid = [], []  # (Sent, …), (dataset, text, recorded errors, file)
        self.filled, self.profiles, self.datasets = 0, 0, {}
        seen = set()
        for line in (library.directory / "payloads.jsonl").read_text().splitlines():
            entry = json.loads(line)
            assert entry["form"] == "xed", entry
            text = (library.directory / entry["file"]).read_text()
            spans = spans_of(text)
            for event in entry["events"]:
                schema = event["schema"]
                if not library.is_time_series(schema):
                    self.profiles += 1
                    continue
                dataset = schema.rsplit("/", 1)[-1]
                self.datasets[dataset] = schema
                start, end = spans[event["at"]]
                payload = text[start:end]
                if schema == SCHEMAS + "edge-any" and payload.startswith("{"):
                    payload, added = filled_in(payload)
                    self.filled += added
                refused = no_ecid(json.loads(payload)) if event["valid"] else []
                if refused:
                    self.invalid.append((dataset, payload, refused, entry["file"]))
                elif event["valid"]:
                    sent = Sent(dataset, payload)
                    assert (dataset, sent.id) not in seen, f"{entry['file']}: an id twice: {sent.id}"
                    seen.add((dataset, sent.id))
                    self.valid.append(sent)
                else:
                    self.invalid.append((dataset, payload, event["errors"], entry["file"]))


def no_ecid(event):
    """ECIDs of other than 38 digits, which schemas take and Milepost does not, as recorded errors."""
    identity_map = event.get("identityMap", {}) if isinstance(event, dict) else {}
    items = enumerate(identity_map.get("ECID", []))
    wrong = [place for place, item in items if not re.fullmatch(r"[0-9]{38}", item["id"])]
    return [{"at": f"/identityMap/ECID/{place}/id", "kw": "pattern"} for place in wrong]


def filled_in(payload):
    """What an SDK adds before it sends: a new `_id`, and the time. (True if something was missing.)"""
    event = json.loads(payload)
    missing = {}
    if "_id" not in event:
        missing["_id"] = str(uuid.uuid4())
    if "timestamp" not in event:
        now = datetime.datetime.now(datetime.timezone.utc)
        missing["timestamp"] = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if not missing:
        return payload, False
    members = json.dumps(missing)[1:-1] + (", " if event else "")
    return "{" + members + payload[1:], True


def spans_of(text):
    """Where each value of a JSON text begins and ends, by JSON pointer."""
    spans = {}

    def skip(at):
        return SPACE.match(text, at).end()

    def walk(at, pointer):
        start = at = skip(at)
        if text[at] == "{":
            at = skip(at + 1)
            while text[at] != "}":
                key, at = DECODER.raw_decode(text, at)
                token = key.replace("~", "~0").replace("/", "~1")
                at = skip(walk(skip(at) + 1, f"{pointer}/{token}"))
                at = skip(at + 1) if text[at] == "," else at
            at += 1
        elif text[at] == "[":
            at, index = skip(at + 1), 0
            while text[at] != "]":
                at = skip(walk(at, f"{pointer}/{index}"))
                at, index = (skip(at + 1) if text[at] == "," else at), index + 1
            at += 1
        else:
            _, at = DECODER.raw_decode(text, at)
        spans[pointer] = (start, at)
        return at

    walk(0, "")
    return spans


TYPES = [
    "web.webpagedetails.pageViews",
    "web.webinteraction.linkClicks",
    "commerce.productViews",
    "commerce.productListAdds",
    "commerce.purchases",
    "commerce.order",
    "commerce",
    "application.launch",
    "location.entry",
    "",
]
PAGES = ["home", "checkout", "Größe & Maß", "カート", "emoji 🛒", 'quotes "and" \\ slashes', "tab\there"]


def generated(seed, count, dataset):
    """Events under `event-any`: all from the seed, in many spellings."""
    source = random.Random(seed)
    people = [f"person-{n}@example.com" for n in range(300)]
    start = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
    for number in range(count):
        moment = start + datetime.timedelta(milliseconds=source.randrange(20 * 24 * 3600 * 1000))
        timestamp = moment.isoformat(timespec="milliseconds")
        if source.random() < 0.7:
            timestamp = timestamp.replace("+00:00", "Z")
        event = {
            "_id": str(uuid.UUID(int=source.getrandbits(128), version=4)),
            "timestamp": timestamp,
            "web": {
                "webPageDetails": {
                    "name": source.choice(PAGES),
                    "URL": f"https://example.com/{number}",
                    "pageViews": {"value": source.choice([1, 2.5, 0, 1e3])},
                }
            },
            "commerce": {
                "order": {
                    "purchaseID": f"p{number}",
                    "priceTotal": round(source.uniform(0, 10_000), 2),
                    "currencyCode": source.choice(["EUR", "USD", "JPY"]),
                }
            },
        }
        event_type = source.choice(TYPES)
        if event_type:
            event["eventType"] = event_type
        identities = {}
        if source.random() < 0.9:
            identities["Email"] = [{"id": source.choice(people), "primary": True}]
        if source.random() < 0.5:
            identities["ECID"] = [{"id": str(source.randrange(10**37, 10**37 + 500))}]
        if source.random() < 0.1:
            identities.setdefault("crm-id", []).extend({"id": f"c{n}"} for n in range(3))
        if identities:
            event["identityMap"] = identities
        if source.random() < 0.05:
            event["web"]["webPageDetails"]["server"] = "x" * source.randrange(20_000)
        keys = list(event)
        source.shuffle(keys)
        event = {key: event[key] for key in keys}
        yield Sent(dataset, spelled(source, event))


def spelled(source, event):
    """JSON has many spellings; the server must keep the one it was sent."""
    style = source.randrange(4)
    if style == 0:
        return json.dumps(event)
    if style == 1:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    if style == 2:
        return json.dumps(event, ensure_ascii=False, indent="\t") + "\n"
    return json.dumps(event, indent=2, separators=(" ,", " : ")).replace("/", "\\/")
