"""The four examples of the field as event definitions over XDM, judged again by Python."""

import argparse
import datetime
import json
import random
import time
import zoneinfo

from milepost import Api, Error
from payloads import SCHEMAS, Library, Payloads
from scenario import Scenario, check, say

STORE = "https://example.com/schemas/store-event"
EXPERIENCE_EVENT = "https://ns.adobe.com/xdm/context/experienceevent"
GROUPS = [
    "xdm/context/experienceevent-commerce",
    "xdm/context/experienceevent-loyalty-details",
    "experience/campaign/orchestration/eventid",
]
PLACE = "xdm/context/placecontext"
LIVE, UNITARY_RULE = 2, 1
ZURICH = zoneinfo.ZoneInfo("Europe/Zurich")


def at(event, path):
    """The value at a path, or None."""
    for name in path.split("."):
        event = event.get(name) if isinstance(event, dict) else None
    return event


def identity(event, namespace=None):
    """The (namespace, id) that a key is by default: the primary identity, or the namespace's first one."""
    found = [
        (code, item["id"], item.get("primary", False))
        for code, items in sorted(event.get("identityMap", {}).items())
        for item in sorted(items, key=lambda it: it["id"])
    ]
    found = [it for it in found if namespace in (None, it[0])]
    primary = [it for it in found if it[2]]
    if namespace is None:
        return primary[0][:2] if primary else None
    return (primary or found)[0][:2] if found else None


def items(event):
    return event.get("productListItems") or []


def hour(event):
    return datetime.datetime.fromisoformat(event["timestamp"]).astimezone(ZURICH).hour


def only(event, *paths):
    """The required fields and those at the paths; a list's elements are cut alike."""
    kept = {"_id": event["_id"], "timestamp": event["timestamp"]}
    for path in paths:
        take(event, kept, path.split("."))
    return kept


def take(source, target, names):
    name, rest = names[0], names[1:]
    if not isinstance(source, dict) or name not in source:
        return
    value = source[name]
    if not rest:
        target[name] = value
    elif isinstance(value, list):
        cut = target.setdefault(name, [{} for _ in value])
        for element, into in zip(value, cut):
            take(element, into, rest)
    else:
        take(value, target.setdefault(name, {}), rest)
        if not target[name]:
            del target[name]


class Definition:
    """A definition as the server gets it, and what Python makes of it."""

    def __init__(self, name, condition, holds, fields, key=identity, **settings):
        self.name, self.condition, self.holds = name, condition, holds
        self.fields, self.key, self.settings = fields, key, settings


STORE_DEFINITIONS = [
    Definition(
        "purchase",
        "eventType == 'commerce.purchases' && commerce.order.priceTotal > 100.0"
        " && productListItems.exists(item, item.SKU.startsWith('SHOE-'))",
        lambda it: it["eventType"] == "commerce.purchases"
        and (at(it, "commerce.order.priceTotal") or 0) > 100
        and any(item.get("SKU", "").startswith("SHOE-") for item in items(it)),
        ["commerce.order", "productListItems.SKU"],
    ),
    Definition(
        "shopVisit",
        "eventType == 'location.entry'"
        " && placeContext.POIinteraction.poiDetail.name in ['Store Basel', 'Store Bern']"
        " && timestamp.getHours('Europe/Zurich') >= 8",
        lambda it: it["eventType"] == "location.entry"
        and at(it, "placeContext.POIinteraction.poiDetail.name") in ("Store Basel", "Store Bern")
        and hour(it) >= 8,
        ["placeContext.POIinteraction.poiDetail.name"],
        key=lambda it: identity(it, "Email"),
        namespace="Email",
    ),
    Definition(
        "abandonedCart",
        "eventType == 'commerce.cartAbandons' && commerce.cartAbandons.value >= 1.0"
        " && productListItems.map(item, item.priceTotal).sum() >= 50.0",
        lambda it: it["eventType"] == "commerce.cartAbandons"
        and (at(it, "commerce.cartAbandons.value") or 0) >= 1
        and sum(item.get("priceTotal", 0) for item in items(it)) >= 50,
        ["productListItems"],
    ),
    Definition(
        "tenThousandPoints",
        "_shop.loyalty.points >= 10000 && eventType == 'loyalty.thresholdReached'",
        lambda it: (at(it, "_shop.loyalty.points") or 0) >= 10000
        and it["eventType"] == "loyalty.thresholdReached",
        ["_shop.loyalty.points"],
        key=lambda it: at(it, "_shop.loyalty.memberID") and ("Loyalty", at(it, "_shop.loyalty.memberID")),
        namespace="Loyalty",
        key_expression="_shop.loyalty.memberID",
    ),
]

LUMA_DEFINITIONS = [
    Definition(
        "lumaPurchase",
        "eventType == 'commerce.purchases' && productListItems.exists(item, item.SKU.startsWith('LLW'))",
        lambda it: it["eventType"] == "commerce.purchases"
        and any(item.get("SKU", "").startswith("LLW") for item in items(it)),
        ["productListItems.SKU", "eventType"],
    ),
    Definition(
        "lumaSaved",
        "eventType in ['commerce.saveForLaters', 'commerce.productViews'] && commerce.purchases == null",
        lambda it: it["eventType"] in ("commerce.saveForLaters", "commerce.productViews")
        and at(it, "commerce.purchases") is None,
        [],
        key=lambda it: identity(it, "lumaCrmId"),
        namespace="lumaCrmId",
    ),
]


def store_schema():
    reference = lambda it: {"$ref": "https://ns.adobe.com/" + it}  # noqa: E731
    points = {"memberID": {"type": "string"}, "points": {"type": "integer"}}
    loyalty = {"loyalty": {"type": "object", "properties": points}}
    own = {"placeContext": reference(PLACE), "_shop": {"type": "object", "properties": loyalty}}
    return {
        "$schema": "http://json-schema.org/draft-06/schema#",
        "$id": STORE,
        "title": "Store event",
        "type": "object",
        "meta:class": EXPERIENCE_EVENT,
        "allOf": [{"$ref": EXPERIENCE_EVENT}, *map(reference, GROUPS), {"properties": own}],
    }


def store_events(seed, count):
    """Events of every kind, of which some are just not what a definition wants."""
    source = random.Random(seed)
    for number in range(count):
        identities = {}
        if source.random() < 0.9:
            ecid = str(10**37 + source.randrange(40))
            identities["ECID"] = [{"id": ecid, "primary": True}]
        if source.random() < 0.8:
            identities["Email"] = [{"id": f"{source.choice(['ann', 'bob', 'cid'])}@example.com"}]
        moment = datetime.datetime(2026, 11, 22, tzinfo=datetime.timezone.utc)
        moment += datetime.timedelta(seconds=source.randrange(200_000))
        zone = datetime.timezone(datetime.timedelta(hours=source.randrange(-11, 13)))
        event = {
            "_id": f"s{number}",
            "timestamp": moment.astimezone(zone).isoformat(),
            "eventType": source.choice(
                [
                    "commerce.purchases",
                    "location.entry",
                    "location.exit",
                    "commerce.cartAbandons",
                    "loyalty.thresholdReached",
                ]
            ),
            "identityMap": identities,
        }
        price = lambda: source.choice([0.5, 12, 49.99, 50, 99.9, 100, 100.01, 154.9])  # noqa: E731
        if source.random() < 0.8:
            event["commerce"] = {"order": {"purchaseID": f"P-{number}", "priceTotal": price()}}
            event["commerce"]["cartAbandons"] = {"value": source.choice([0, 1, 2])}
        if source.random() < 0.8:
            event["productListItems"] = [
                {"SKU": source.choice(["SHOE-1", "SHOE-é", "SOCK-1"]), "priceTotal": price()}
                for _ in range(source.randrange(4))
            ]
        if source.random() < 0.6:
            name = source.choice(["Store Basel", "Store Bern", "Store Paris", "store basel"])
            interaction = {"poiDetail": {"name": name}, "poiEntries": {"value": 1}}
            event["placeContext"] = {"POIinteraction": interaction}
        if source.random() < 0.7:
            loyalty = {"points": source.choice([0, 9_999, 10_000, 10_055])}
            if source.random() < 0.9:
                loyalty["memberID"] = f"M-{source.randrange(30)}"
            event["_shop"] = {"loyalty": loyalty}
        yield json.dumps(event, ensure_ascii=False)


class Definitions(Scenario):
    def define(self, definitions, schema_id):
        create = self.api.message("CreateEventDefinitionRequest")
        definition = self.api.message("EventDefinition")
        for it in definitions:
            settings = dict(it.settings)
            key = settings.pop("key_expression", "")
            made = definition(
                name=it.name,
                kind=UNITARY_RULE,
                schema_id=schema_id,
                condition=it.condition,
                fields=it.fields,
                state=LIVE,
                key=key,
                **settings,
            )
            request = create(event_definition=made)
            self.api.call("EventDefinitionService/CreateEventDefinition", request)

    def judge(self, dataset, definitions, texts):
        """Which events match, what is delivered, to whom, and what is discarded: all as Python says."""
        since = time.monotonic()
        events = {}
        for start in range(0, len(texts), 200):
            batch = texts[start : start + 200]
            answer = self.api.call("EventService/AppendEvents", self.append_request(dataset, batch))
            events.update(zip([it.position for it in answer.results], map(json.loads, batch)))
        wanted = {it.name: [p for p, e in events.items() if it.holds(e)] for it in definitions}
        for recorded in self.read(self.filter(datasets=[dataset])):
            names = sorted(it.name for it in definitions if recorded.position in wanted[it.name])
            found = sorted(recorded.event_definitions)
            check(found == names, f"{recorded.position}: {found} is not {names}: {recorded.event.json}")
        for it in definitions:
            matched = wanted[it.name]
            by_name = self.filter(datasets=[dataset], event_definitions=[it.name])
            check([e.position for e in self.read(by_name)] == matched, f"{it.name}: read")
            check(self.count(by_name) == len(matched), f"{it.name}: count")
            kept = [p for p in matched if it.key(events[p])]
            as_it = self.read(self.filter(datasets=[dataset], deliver_as=it.name))
            check([e.position for e in as_it] == kept, f"{it.name}: delivered")
            for event in as_it:
                sent = events[event.position]
                key = (event.delivery.namespace, event.delivery.key)
                check(key == it.key(sent), f"{it.name}: {event.position} is about {key}")
                expected = only(sent, *it.fields) if it.fields else sent
                payload = json.loads(event.event.json)
                check(payload == expected, f"{it.name}: {payload} is not {expected}")
            discarded = self.discards(it.name)
            check(discarded == [p for p in matched if p not in kept], f"{it.name}: {discarded} discarded")
            say(f"  {it.name}: {len(matched)} of {len(events)} match, {len(kept)} are delivered")
            check(kept and len(matched) < len(events), f"{it.name} shows nothing")
        say(f"{dataset}: {len(definitions)} definitions match and deliver what they should", since)

    def discards(self, name):
        request = self.api.message("ListDiscardsRequest")
        positions, after = [], 0
        while True:
            answer = self.api.call(
                "EventDefinitionService/ListDiscards", request(name=name, after=after, page_size=7)
            )
            positions += [it.position for it in answer.discards]
            after = answer.scanned_to
            if after >= answer.last_position:
                return positions

    def refuse(self):
        """What is not true to the schema is refused with its place."""
        create = self.api.message("CreateEventDefinitionRequest")
        definition = self.api.message("EventDefinition")
        for condition, said in [
            ("commerce.order.pricetotal > 1.0", "priceTotal"),
            ("commerce.order.priceTotal == 'much'", "=="),
            ("eventType ==", "wanted a value"),
        ]:
            wrong = definition(name="wrong", kind=UNITARY_RULE, schema_id=STORE, condition=condition)
            try:
                self.api.call(
                    "EventDefinitionService/CreateEventDefinition", create(event_definition=wrong)
                )
                check(False, f"{condition} was taken")
            except Error as error:
                fields = [it[0] for it in error.fields]
                check(error.reason == "EVENT_DEFINITION_INVALID", f"{condition}: {error.reason}")
                check(fields == ["event_definition.condition"], f"{condition}: {fields}")
                described = error.fields[0][1]
                check(said in described, f"{condition}: {described}")
        say("conditions that cannot be meant are refused, with the place")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--xdm", required=True)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--count", type=int, default=600)
    arguments = parser.parse_args()
    scenario = Definitions(arguments.address)
    library = Library(arguments.xdm)
    references = ["https://ns.adobe.com/" + it for it in [*GROUPS, PLACE]]
    luma = SCHEMAS + "luma-web"
    scenario.register(library, [EXPERIENCE_EVENT, *references, luma])
    register = scenario.api.message("RegisterSchemaRequest")(document=json.dumps(store_schema()))
    scenario.api.call("SchemaService/RegisterSchema", register)
    create = scenario.api.message("CreateNamespaceRequest")
    namespace = scenario.api.message("Namespace")
    for code in ("Loyalty", "lumaCrmId"):
        request = create(namespace=namespace(code=code, type=2))
        scenario.api.call("IdentityService/CreateNamespace", request)
    scenario.create({"store": STORE, "luma-web": luma})
    scenario.define(STORE_DEFINITIONS, STORE)
    scenario.define(LUMA_DEFINITIONS, luma)
    say(f"seed {arguments.seed}")
    scenario.judge("store", STORE_DEFINITIONS, list(store_events(arguments.seed, arguments.count)))
    texts = [it.text for it in Payloads(library).valid if it.dataset == "luma-web"]
    scenario.judge("luma-web", LUMA_DEFINITIONS, texts)
    scenario.refuse()
    say("ALL HELD")


if __name__ == "__main__":
    main()
