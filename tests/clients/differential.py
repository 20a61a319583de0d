"""Judges changed events by the server and by Python's `jsonschema`, and compares what is wrong where."""

import argparse
import copy
import json
import random
import sys
from pathlib import Path

import jsonschema
import referencing
from milepost import Api
from payloads import SCHEMAS, Library
from referencing.jsonschema import DRAFT6

COMPOSED = [
    "web-commerce",
    "mobile-app",
    "omnichannel",
    "luma-web",
    "media-edge",
    "analytics-full",
    "fsi-retail",
    "direct-marketing",
]
# The server has rules of its own for these, whatever the schema.
ENVELOPE = {"_id", "timestamp", "eventType", "identityMap"}
VIOLATIONS_MAX = 100


def places(value, at=()):
    """Where something can be changed, outermost first."""
    members = value.items() if isinstance(value, dict) else ()
    elements = enumerate(value) if isinstance(value, list) else ()
    for key, inner in [*members, *elements]:
        if at or key not in ENVELOPE:
            yield (*at, key)
            yield from places(inner, (*at, key))


def changed(source, event):
    """The event with one thing in it changed, and what."""
    event = copy.deepcopy(event)
    path = source.choice(list(places(event)))
    holder = event
    for key in path[:-1]:
        holder = holder[key]
    key, old = path[-1], holder[path[-1]]
    values = ["text", "", "2026-11-20", 17, -1, 0.5, 10**15, True, {}, {"other": 1}, [], [1, 1]]
    change = source.choice(["replace", "replace", "replace", "remove", "rename", "add", "again"])
    if change == "replace":
        holder[key] = source.choice([it for it in values if it != old])
    elif change == "remove":
        del holder[key]
    elif change == "rename" and isinstance(holder, dict):
        holder[key + "X"] = holder.pop(key)
    elif change == "add" and isinstance(old, dict):
        old["added"] = source.choice(values)
    elif isinstance(old, list):
        old.extend(copy.deepcopy(old[:1]))
    else:
        holder[key] = [old]
    return event, f"{change} at /{'/'.join(map(str, path))}"


def pointer(path):
    return "".join("/" + str(it).replace("~", "~0").replace("/", "~1") for it in path)


class Reference:
    """The other validator. `format` is left out: each has its own idea of which are known."""

    def __init__(self, library):
        documents = [(it, json.loads(library.document(it))) for it in library.entries]
        resources = [(it.rstrip("#"), DRAFT6.create_resource(document)) for it, document in documents]
        self.registry = referencing.Registry().with_resources(resources)

    def wrong(self, schema, event):
        validator = jsonschema.Draft6Validator({"$ref": schema}, registry=self.registry)
        return {pointer(it.absolute_path) for it in validator.iter_errors(event)}


class Server:
    def __init__(self, address, library):
        self.api = Api(address)
        request = self.api.message("ImportSchemasRequest")()
        for schema in library.entries:
            request.documents.add(name=schema, document=library.document(schema))
        request.keep_going = True
        answer = self.api.call("SchemaService/ImportSchemas", request)
        refused = [it.id or it.name for it in answer.results if it.HasField("error")]
        print(f"{len(answer.results) - len(refused)} documents imported, refused: {refused}")

    def wrong(self, schema, event):
        request = self.api.message("ValidateEventRequest")()
        request.schema_id = schema
        request.event.json = json.dumps(event)
        found = self.api.call("SchemaService/ValidateEvent", request).violations
        own = [it for it in found if it.schema_path.startswith("milepost:event#")]
        assert not own, (schema, event, own)
        wrong = {it.instance_path for it in found if it.keyword != "format"}
        return wrong, len(found) >= VIOLATIONS_MAX

    def sample(self, schema, seed):
        request = self.api.message("GenerateSampleRequest")()
        request.id, request.seed = schema, seed
        return json.loads(self.api.call("SchemaService/GenerateSample", request).json)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--xdm", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    print("seed", arguments.seed)
    source = random.Random(arguments.seed)
    library = Library(arguments.xdm)
    server, reference = Server(arguments.address, library), Reference(library)
    samples = {it: [server.sample(SCHEMAS + it, seed) for seed in range(4)] for it in COMPOSED}
    agreed, invalid, differing = 0, 0, []
    for _ in range(arguments.count):
        name = source.choice(COMPOSED)
        event, change = source.choice(samples[name]), ""
        for _ in range(source.choice([1, 1, 2, 3])):
            if not list(places(event)):
                break
            event, one = changed(source, event)
            change += one + "; "
        ours, truncated = server.wrong(SCHEMAS + name, event)
        theirs = reference.wrong(SCHEMAS + name, event)
        same = bool(ours) == bool(theirs) if truncated else ours == theirs
        if same:
            agreed += 1
            invalid += bool(ours)
        else:
            differing.append(f"{name}: {change}only here {ours - theirs}, only there {theirs - ours}")
    print(f"{agreed} of {arguments.count} changed events judged alike, {invalid} of them invalid")
    print("\n".join(differing))
    sys.exit(1 if differing else 0)


main()
