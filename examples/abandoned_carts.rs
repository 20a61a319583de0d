//! A journey engine in one file: whoever adds to a cart and buys nothing for a while gets one message.
//!
//! ```sh
//! cargo run --example abandoned_carts -- 127.0.0.1:7373 store messages 3600 worker-1
//! ```
//!
//! Any number of these share the subscription `abandoned-carts`. Each may be killed at any time, and the server,
//! too: the message of a cart is an event whose id is the delivery's `dedupe_key`, stored in the same write as the
//! acknowledgement and only if no purchase has come by then, so there is exactly one, or none.

#![expect(clippy::print_stderr, reason = "a worker says why it starts again")]

use std::time::Duration;

use anyhow::{Context, anyhow};
use milepost::grpc::{
    client::{CallStatus, Connection, SubscriptionClient, well_known},
    pb::{self, condition::Condition, outcome::Outcome as Said},
};

const SUBSCRIPTION: &str = "abandoned-carts";
const CART: &str = "commerce.productListAdds";
const PURCHASE: &str = "commerce.purchases";

struct Engine {
    connection: Connection,
    /// Where carts and purchases are.
    store: String,
    /// Where messages go.
    messages: String,
    /// How long somebody has for the purchase.
    patience: Duration,
    worker: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, store, messages, seconds, worker] = arguments.as_slice() else {
        return Err(anyhow!("wanted: ADDRESS STORE-DATASET MESSAGES-DATASET SECONDS WORKER-NAME"));
    };
    let patience = Duration::from_secs(seconds.parse().context("SECONDS")?);
    loop {
        // The server may be away for a while.
        let Ok(connection) = Connection::open(address).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (store, messages) = (store.clone(), messages.clone());
        let engine = Engine { connection, store, messages, patience, worker: worker.clone() };
        if let Err(error) = engine.run().await {
            eprintln!("{error}; starting again");
        }
    }
}

impl Engine {
    async fn run(&self) -> Result<(), CallStatus> {
        let mut client = self.connection.subscriptions();
        self.create(&mut client).await?;
        loop {
            let request = pb::PullRequest {
                subscription: SUBSCRIPTION.into(),
                client_id: self.worker.clone(),
                instance: std::process::id().into(),
                max_events: 100,
                wait: Some(well_known::Duration { seconds: 10, nanos: 0 }),
                ..Default::default()
            };
            for cart in client.pull(request).await?.into_inner().events {
                self.decide(&mut client, cart).await?;
            }
        }
    }

    /// Makes the subscription, unless it is there.
    async fn create(&self, client: &mut SubscriptionClient) -> Result<(), CallStatus> {
        let filter = pb::EventFilter {
            datasets: vec![self.store.clone()],
            event_types: vec![CART.into()],
            ..Default::default()
        };
        let subscription = pb::Subscription {
            name: SUBSCRIPTION.into(),
            filter: Some(filter),
            // Waiting for the purchase is no failure.
            max_attempts: Some(0),
            ack_deadline: Some(well_known::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        };
        let beginning = pb::start::Start::Beginning(pb::start::Beginning {});
        let request = pb::CreateSubscriptionRequest {
            subscription: Some(subscription),
            start: Some(pb::Start { start: Some(beginning) }),
            validate_only: false,
        };
        client.create_subscription(request).await?;
        Ok(())
    }

    async fn decide(
        &self,
        client: &mut SubscriptionClient,
        cart: pb::Delivered,
    ) -> Result<(), CallStatus> {
        let event = cart.event.unwrap_or_default();
        let ack = |said| pb::Outcome { ack_id: cart.ack_id.clone(), outcome: Some(said) };
        let done = ack(Said::Ack(pb::outcome::Ack {}));
        let Some(person) = event.identities.iter().find(|it| it.primary).cloned() else {
            return resolve(client, done).await;
        };
        let purchases = pb::EventFilter {
            datasets: vec![self.store.clone()],
            event_types: vec![PURCHASE.into()],
            identities: vec![person.clone()],
            ..Default::default()
        };
        if self.any_after(purchases.clone(), event.position).await? {
            return resolve(client, done).await;
        }
        let left = left(&event, self.patience);
        if !left.is_zero() {
            let delay = well_known::Duration::try_from(left).ok();
            let reason = "waits for the purchase".to_owned();
            return resolve(client, ack(Said::Nack(pb::outcome::Nack { delay, reason }))).await;
        }
        let (namespace, id) = (text(&person.namespace), text(&person.id));
        let message = serde_json::json!({
            "_id": cart.dedupe_key,
            "timestamp": time_of(&event),
            "eventType": "message.cartAbandoned",
            "identityMap": { namespace: [{ "id": id, "primary": true }] },
        });
        let payload = pb::event::Payload::Json(message.to_string().into());
        let unless = pb::FailIfMatch { filter: Some(purchases), after: event.position };
        let append = pb::AppendEventsRequest {
            dataset: self.messages.clone(),
            events: vec![pb::Event { payload: Some(payload) }],
            conditions: vec![pb::Condition { condition: Some(Condition::FailIfMatch(unless)) }],
            ..Default::default()
        };
        let work = pb::CommitWorkRequest {
            subscription: SUBSCRIPTION.into(),
            outcomes: vec![done.clone()],
            appends: vec![append],
        };
        let Err(status) = client.commit_work(work).await else { return Ok(()) };
        match milepost::grpc::client::CallError::from(status.clone()).reason.as_str() {
            // A purchase came in the last moment.
            "CONDITION_FAILED" => resolve(client, done).await,
            // Somebody else has it now.
            "LEASE_STALE" => Ok(()),
            _ => Err(status),
        }
    }

    async fn any_after(&self, filter: pb::EventFilter, after: u64) -> Result<bool, CallStatus> {
        let request =
            pb::ReadEventsRequest { filter: Some(filter), after, limit: 1, ..Default::default() };
        let mut pages = self.connection.events().read_events(request).await?.into_inner();
        while let Some(page) = pages.message().await? {
            if !page.events.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// One outcome. That the lease is over meanwhile is not our business: who has the event now does it.
async fn resolve(client: &mut SubscriptionClient, outcome: pb::Outcome) -> Result<(), CallStatus> {
    let (subscription, outcomes) = (SUBSCRIPTION.into(), vec![outcome]);
    client.resolve(pb::ResolveRequest { subscription, outcomes }).await?;
    Ok(())
}

/// What is left of somebody's time since the cart was stored.
fn left(event: &pb::RecordedEvent, patience: Duration) -> Duration {
    let stored = event.record_time.unwrap_or_default();
    let stored = Duration::new(
        u64::try_from(stored.seconds).unwrap_or(0),
        u32::try_from(stored.nanos).unwrap_or(0),
    );
    #[expect(clippy::disallowed_methods, reason = "an example has the system's clock")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (stored + patience).saturating_sub(now.unwrap_or_default())
}

/// The cart's own time, in RFC 3339: the same in every attempt, so that the message is, too.
fn time_of(event: &pb::RecordedEvent) -> String {
    let time = event.event_time.unwrap_or_default();
    let nanos = u32::try_from(time.nanos).unwrap_or(0);
    let time = milepost::model::Timestamp::new(time.seconds, nanos).unwrap_or_default();
    time.to_string()
}

/// Texts of messages of which there are many come as bytes; they are UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
