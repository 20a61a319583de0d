//! Schemas and events to work with. Nothing here is random unless a seed says so.

use serde_json::{Value, json};

use super::Client;

/// `$id` of the schema that most tests use.
pub(crate) const PURCHASE: &str = "https://example.com/schemas/purchase";
/// The built-in class.
pub(crate) const EXPERIENCE_EVENT: &str = "https://ns.adobe.com/xdm/context/experienceevent";

/// An experience event with an order.
pub(crate) fn purchase_schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-06/schema#",
        "$id": PURCHASE,
        "title": "Purchase",
        "type": "object",
        "meta:class": EXPERIENCE_EVENT,
        "allOf": [
            {"$ref": EXPERIENCE_EVENT},
            {"properties": {
                "commerce": {
                    "type": "object",
                    "properties": {
                        "order": {
                            "type": "object",
                            "properties": {
                                "purchaseID": {"type": "string", "minLength": 1},
                                "priceTotal": {"type": "number", "minimum": 0},
                                "currencyCode": {"type": "string", "pattern": "^[A-Z]{3}$"}
                            },
                            "required": ["purchaseID"]
                        }
                    }
                },
                "count": {"type": "integer"}
            }}
        ]
    })
}

/// A purchase by somebody, which the purchase schema accepts.
pub(crate) fn purchase(id: &str, person: &str) -> Value {
    json!({
        "_id": id,
        "timestamp": "2026-11-20T17:26:04.123Z",
        "eventType": "commerce.purchases",
        "identityMap": {"Email": [{"id": person, "primary": true}]},
        "commerce": {"order": {"purchaseID": id, "priceTotal": 99.5, "currencyCode": "EUR"}}
    })
}

/// The same as JSON text.
pub(crate) fn purchase_text(id: &str, person: &str) -> String {
    purchase(id, person).to_string()
}

/// An event of a given type and nothing else.
pub(crate) fn typed(id: &str, event_type: &str) -> String {
    json!({"_id": id, "timestamp": "2026-11-20T17:26:04Z", "eventType": event_type}).to_string()
}

/// Registers the purchase schema and makes one dataset under it.
pub(crate) async fn purchases(client: &Client, dataset: &str) {
    client.register(purchase_schema().to_string()).await.unwrap();
    client.create(dataset, PURCHASE).await.unwrap();
}

/// Numbers that a seed decides (xorshift64*): the same everywhere and always.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From the environment, else as given; printed, so that a failure can be repeated.
    pub(crate) fn seeded(test: &str, default: u64) -> Self {
        let seed = std::env::var("MILEPOST_SEED").ok().and_then(|it| it.parse().ok());
        let seed = seed.unwrap_or(default);
        eprintln!("{test}: MILEPOST_SEED={seed}");
        Self::from_seed(seed)
    }

    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }

    /// One of several.
    pub(crate) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = self.below(u64::try_from(choices.len()).unwrap());
        &choices[usize::try_from(index).unwrap()]
    }
}
