"""A journey engine in one file: whoever adds to a cart and buys nothing for a while gets one message.

    pip install grpcio grpcio-reflection
    python examples/abandoned_carts.py 127.0.0.1:7373 store messages 3600 worker-1

Any number of these share the subscription `abandoned-carts`, also with workers of other languages. Each may be killed
at any time, and the server, too: the message of a cart is an event whose id is the delivery's `dedupe_key`, stored in
the same write as the acknowledgement and only if no purchase has come by then, so there is exactly one, or none.
"""

import json
import os
import sys
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SUBSCRIPTION = "abandoned-carts"
CART, PURCHASE = "commerce.productListAdds", "commerce.purchases"


class Server:
    """Calls by name; what messages look like, the server tells."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def call(self, method, **fields):
        """The response, or an iterator of responses."""
        service, name = method.split("/")
        described = self.pool.FindServiceByName(f"milepost.v1.{service}").FindMethodByName(name)
        request = message_factory.GetMessageClass(described.input_type)(**fields)
        response = message_factory.GetMessageClass(described.output_type)
        kind = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/milepost.v1.{method}",
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return stub(request, timeout=60)


def refusal(error):
    """The stable reason of a refused call."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    for reason in ("CONDITION_FAILED", "LEASE_STALE"):
        if reason.encode() in details:
            return reason
    return ""


class Engine:
    def __init__(self, address, store, messages, seconds, worker):
        self.server = Server(address)
        self.store, self.messages, self.worker = store, messages, worker
        self.patience = float(seconds)

    def run(self):
        settings = {
            "name": SUBSCRIPTION,
            "filter": {"datasets": [self.store], "event_types": [CART]},
            "max_attempts": 0,  # waiting for the purchase is no failure
            "ack_deadline": {"seconds": 5},
        }
        self.server.call(
            "SubscriptionService/CreateSubscription",
            subscription=settings,
            start={"beginning": {}},
        )
        while True:
            pulled = self.server.call(
                "SubscriptionService/Pull",
                subscription=SUBSCRIPTION,
                client_id=self.worker,
                instance=os.getpid(),
                max_events=100,
                wait={"seconds": 10},
            )
            for cart in pulled.events:
                self.decide(cart)

    def decide(self, cart):
        event, done = cart.event, {"ack_id": cart.ack_id, "ack": {}}
        person = next((it for it in event.identities if it.primary), None)
        if person is None:
            return self.resolve(done)
        purchases = {
            "datasets": [self.store],
            "event_types": [PURCHASE],
            "identities": [{"namespace": person.namespace, "id": person.id}],
        }
        pages = self.server.call(
            "EventService/ReadEvents", filter=purchases, after=event.position, limit=1
        )
        if any(page.events for page in pages):
            return self.resolve(done)
        stored = event.record_time.seconds + event.record_time.nanos / 1e9
        left = stored + self.patience - time.time()
        if left > 0:
            delay = {"seconds": int(left), "nanos": int(left % 1 * 1e9)}
            nack = {"delay": delay, "reason": "waits for the purchase"}
            return self.resolve({"ack_id": cart.ack_id, "nack": nack})
        message = {
            "_id": cart.dedupe_key,
            # The cart's own time: the same in every attempt, so that the message is, too.
            "timestamp": event.event_time.ToJsonString(),
            "eventType": "message.cartAbandoned",
            "identityMap": {person.namespace: [{"id": person.id, "primary": True}]},
        }
        append = {
            "dataset": self.messages,
            "events": [{"json": json.dumps(message)}],
            "conditions": [{"fail_if_match": {"filter": purchases, "after": event.position}}],
        }
        try:
            self.server.call(
                "SubscriptionService/CommitWork",
                subscription=SUBSCRIPTION,
                outcomes=[done],
                appends=[append],
            )
        except grpc.RpcError as error:
            reason = refusal(error)
            if reason == "CONDITION_FAILED":  # a purchase came in the last moment
                self.resolve(done)
            elif reason != "LEASE_STALE":  # otherwise somebody else has it now
                raise

    def resolve(self, outcome):
        """One outcome. That the lease is over meanwhile is not our business: who has the event now does it."""
        self.server.call("SubscriptionService/Resolve", subscription=SUBSCRIPTION, outcomes=[outcome])


def main():
    if len(sys.argv) != 6:
        sys.exit("wanted: ADDRESS STORE-DATASET MESSAGES-DATASET SECONDS WORKER-NAME")
    while True:
        try:
            Engine(*sys.argv[1:]).run()
        except Exception as error:  # noqa: BLE001  (the server may be away for a while)
            print(f"{error}; starting again", file=sys.stderr)
            time.sleep(0.1)


if __name__ == "__main__":
    main()
