//! Tagged events: stored although they are invalid, and left out of everything that does not ask for them.

use milepost::grpc::pb::{
    self, append_result::Outcome, subscription_service_client::SubscriptionServiceClient,
};
use serde_json::{Value, json};

use crate::{
    event_definitions::{by_definition, create, rule},
    support::{
        Client, Server,
        client::{by_dataset, by_identity, by_type, expected_last, json_of, reading, request},
        errors::expect,
        events::{PURCHASE, Random, purchase, purchase_schema, purchase_text},
        server::milepost,
    },
};

/// A dataset that stores invalid events.
async fn set_up(client: &Client, name: &str) {
    client.register(purchase_schema().to_string()).await.unwrap();
    let mut dataset =
        pb::Dataset { name: name.into(), schema_id: PURCHASE.into(), ..Default::default() };
    dataset.set_on_invalid(pb::OnInvalid::Tag);
    let made = client.create_dataset(dataset).await.unwrap();
    assert_eq!(made.on_invalid(), pb::OnInvalid::Tag);
}

/// A purchase with a price that is text.
fn mispriced(id: &str, person: &str) -> Value {
    let mut event = purchase(id, person);
    event["commerce"]["order"]["priceTotal"] = json!("99.5");
    event
}

fn with(tagged: pb::TaggedEvents, filter: pb::EventFilter) -> pb::EventFilter {
    pb::EventFilter { tagged: tagged.into(), ..filter }
}

/// Reads both ways and counts, which must agree.
async fn positions(client: &Client, filter: pb::EventFilter) -> Vec<u64> {
    let events = client.read(reading(filter.clone())).await.unwrap();
    let found: Vec<u64> = events.iter().map(|it| it.position).collect();
    let mut backward = reading(filter.clone());
    backward.set_direction(pb::Direction::Backward);
    let mut back: Vec<u64> =
        client.read(backward).await.unwrap().iter().map(|it| it.position).collect();
    back.reverse();
    assert_eq!(found, back, "{filter:?}");
    assert_eq!(client.count(filter.clone()).await.unwrap(), found.len() as u64, "{filter:?}");
    found
}

async fn trace(client: &Client, dataset: &str, id: &str) -> pb::TraceEventResponse {
    let key = pb::EventKey { dataset: dataset.into(), event_id: id.into() };
    let request = pb::TraceEventRequest { event: Some(key) };
    client.events.clone().trace_event(request).await.unwrap().into_inner()
}

async fn subscribe(client: &Client, name: &str, filter: pb::EventFilter) {
    let start =
        Some(pb::Start { start: Some(pb::start::Start::Beginning(pb::start::Beginning {})) });
    let filter = Some(filter);
    let subscription = Some(pb::Subscription { name: name.into(), filter, ..Default::default() });
    let request = pb::CreateSubscriptionRequest { subscription, start, ..Default::default() };
    SubscriptionServiceClient::new(client.channel.clone())
        .create_subscription(request)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_invalid_event_is_stored_and_shown_to_who_asks_for_it() {
    use pb::TaggedEvents::{Included, LeftOut, Only};
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    let person = "ann@example.com";
    let batch = [
        purchase_text("g1", person),
        mispriced("e1", person).to_string(),
        purchase_text("g2", person),
    ];
    // What is only checked is told and not stored.
    let mut check = request("web", &batch);
    check.validate_only = true;
    let checked = client.append_request(check).await.unwrap();
    assert_eq!(checked.results[1].outcome(), Outcome::Tagged);
    assert_eq!((checked.results[1].position, client.last_position().await), (0, 0));
    assert_eq!(checked.results[1].violations[0].instance_path, "/commerce/order/priceTotal");

    // A batch of all or none has it too: it is stored.
    let answer = client.append("web", &batch).await.unwrap();
    let outcomes: Vec<_> = answer.results.iter().map(pb::AppendResult::outcome).collect();
    assert_eq!(outcomes, [Outcome::Appended, Outcome::Tagged, Outcome::Appended]);
    let places: Vec<_> = answer.results.iter().map(|it| it.position).collect();
    assert_eq!((places, answer.durable_position), (vec![1, 2, 3], 3));
    assert!(answer.results[0].violations.is_empty());
    let violations = answer.results[1].violations.clone();
    assert_eq!(violations[0].expected, "number");
    assert!(violations[0].found.starts_with('"'), "{violations:?}");
    assert_eq!(violations, checked.results[1].violations);

    subscribe(&client, "valid", pb::EventFilter::default()).await;
    subscribe(&client, "broken", with(Only, pb::EventFilter::default())).await;
    let check = async |client: &Client| {
        let filters = [
            pb::EventFilter::default(),
            by_dataset("web"),
            by_type("commerce.purchases"),
            by_type("commerce.*"),
            by_identity("Email", person),
            by_identity("Email", ""),
            pb::EventFilter { schemas: vec![PURCHASE.into()], ..Default::default() },
            pb::EventFilter { r#where: "_id != 'x'".into(), ..Default::default() },
        ];
        for filter in filters {
            assert_eq!(positions(client, filter.clone()).await, [1, 3], "{filter:?}");
            assert_eq!(positions(client, with(LeftOut, filter.clone())).await, [1, 3]);
            assert_eq!(positions(client, with(Included, filter.clone())).await, [1, 2, 3]);
            assert_eq!(positions(client, with(Only, filter.clone())).await, [2], "{filter:?}");
        }
        let event = client.get(2).await.unwrap();
        assert_eq!((&*event.event_id, &event.violations), (&b"e1"[..], &violations));
        assert_eq!(json_of(&event), batch[1]);
        assert!(client.get(1).await.unwrap().violations.is_empty());
        let stats = client.dataset("web").await.unwrap().stats.unwrap();
        assert_eq!((stats.events, stats.tagged_events), (2, 1));
        assert_eq!((stats.first_position, stats.last_position), (1, 3));
        assert_eq!(stats.payload_bytes, batch.iter().map(|it| it.len() as u64).sum::<u64>());
        assert_eq!(client.status().await.unwrap().tagged_events, 1);
        let told = trace(client, "web", "e1").await;
        assert_eq!(told.state(), pb::EventState::Tagged);
        assert!(told.summary.contains("position 2"), "{}", told.summary);
        let names: Vec<_> = told.deliveries.iter().map(|it| it.subscription.as_str()).collect();
        assert_eq!(names, ["broken"]);
        let names: Vec<_> = trace(client, "web", "g1").await.deliveries;
        assert_eq!(names.iter().map(|it| it.subscription.as_str()).collect::<Vec<_>>(), ["valid"]);
        client.verify().await.unwrap();
    };
    check(&client).await;

    // Its id is taken, by itself and by nothing else.
    let again = client.append("web", &batch).await.unwrap();
    assert!(again.results.iter().all(|it| it.outcome() == Outcome::Duplicate), "{again:?}");
    assert_eq!(again.results[1].position, 2);
    let mended = purchase_text("e1", person);
    expect(client.append("web", &[mended]).await, "EVENT_ID_CONFLICT", &["e1"]);

    let server = Server::start_on(server.kill());
    check(&server.client().await).await;
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    check(&client).await;
    client.compact().await.unwrap();
    check(&client).await;

    // Conditions do not see it, unless their filter does.
    let mut append = request("web", &[mispriced("e4", person).to_string()]);
    append.conditions = vec![expected_last("Email", person, 3)];
    client.append_request(append).await.unwrap();
    let no_match = |filter| {
        let fail = pb::FailIfMatch { filter: Some(filter), after: 3 };
        let condition = Some(pb::condition::Condition::FailIfMatch(fail));
        let mut append = request("web", &[purchase_text("g5", person)]);
        append.conditions = vec![pb::Condition { condition }];
        append
    };
    let seen = client.append_request(no_match(with(Included, by_dataset("web")))).await;
    expect(seen, "CONDITION_FAILED", &[]);
    client.append_request(no_match(by_dataset("web"))).await.unwrap();
    let dataset = pb::DeleteDatasetRequest { name: "web".into(), ..Default::default() };
    client.trim("web", 4).await.unwrap();
    expect(client.datasets.clone().delete_dataset(dataset).await, "DATASET_NOT_EMPTY", &["2"]);
}

#[tokio::test]
async fn no_event_definition_matches_a_tagged_event() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    // Stored before there is a definition, and after.
    let early = [mispriced("e1", "a@b.c").to_string(), purchase_text("e2", "a@b.c")];
    client.append("web", &early).await.unwrap();
    create(&client, rule("orders", "commerce.order.purchaseID != 'x'")).await.unwrap();
    let late = [mispriced("e3", "a@b.c").to_string(), purchase_text("e4", "a@b.c")];
    client.append("web", &late).await.unwrap();
    for tagged in [pb::TaggedEvents::LeftOut, pb::TaggedEvents::Included] {
        assert_eq!(positions(&client, with(tagged, by_definition(&["orders"]))).await, [4]);
    }
    let request =
        pb::BackfillEventDefinitionRequest { name: "orders".into(), ..Default::default() };
    let mut steps =
        client.definitions.clone().backfill_event_definition(request).await.unwrap().into_inner();
    while steps.message().await.unwrap().is_some() {}
    assert_eq!(positions(&client, by_definition(&["orders"])).await, [2, 4]);
    let subject = Some(pb::explain_match_request::Subject::Position(3));
    let request = pb::ExplainMatchRequest { name: "orders".into(), subject };
    let explained = client.definitions.clone().explain_match(request).await;
    expect(explained, "ARGUMENT_INVALID", &["position", "tagged"]);
}

#[tokio::test]
async fn what_cannot_be_kept_as_an_event_is_refused() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "web").await;
    let changed = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut event = purchase(id, "ann@example.com");
        change(&mut event);
        event.to_string()
    };
    client.append("web", &[purchase_text("taken", "a@b.c")]).await.unwrap();
    let deep = "[".repeat(70) + &"]".repeat(70);
    let refused: Vec<(String, &str)> = vec![
        ("{\"_id\": ".to_owned(), "EVENT_INVALID"),
        ("[1]".to_owned(), "EVENT_INVALID"),
        ("{}".to_owned(), "EVENT_INVALID"),
        (format!("{{\"_id\": \"deep\", \"a\": {deep}}}"), "EVENT_INVALID"),
        (format!("{{\"_id\": \"{}\"}}", "x".repeat(1024 * 1024)), "EVENT_INVALID"),
        (changed("x", &|it| it["_id"] = json!("")), "EVENT_INVALID"),
        (changed("x", &|it| it["_id"] = json!("é".repeat(600))), "EVENT_INVALID"),
        (changed("x", &|it| it["timestamp"] = json!("yesterday")), "EVENT_INVALID"),
        (changed("x", &|it| it["timestamp"] = json!("1969-01-01T00:00:00Z")), "EVENT_INVALID"),
        (changed("taken", &|it| it["commerce"] = json!(1)), "EVENT_ID_CONFLICT"),
    ];
    for (payload, reason) in &refused {
        expect(client.append("web", &[payload]).await, reason, &[]);
        let each = client.append_each("web", &[payload]).await.unwrap();
        assert_eq!(each.results[0].outcome(), Outcome::Rejected, "{reason}");
    }
    // One of them refuses a batch of all or none.
    let both = [mispriced("m", "a@b.c").to_string(), "{}".to_owned()];
    expect(client.append("web", &both).await, "EVENT_INVALID", &[]);

    let two = json!({"Email": [{"id": "a", "primary": true}, {"id": "b", "primary": true}]});
    let many: Vec<Value> = (0..21).map(|n| json!({"id": format!("i{n}")})).collect();
    let kept: Vec<(String, usize, &str)> = vec![
        (changed("k1", &|it| it["commerce"] = json!(7)), 1, "/commerce"),
        (changed("k2", &|it| it["eventType"] = json!(7)), 1, "/eventType"),
        (changed("k3", &|it| it["eventType"] = json!("t".repeat(300))), 1, "/eventType"),
        (
            changed("k4", &|it| it["identityMap"] = json!({"Email": [{"id": ""}]})),
            0,
            "/identityMap/Email/0/id",
        ),
        (changed("k5", &|it| it["identityMap"] = two.clone()), 2, "/identityMap"),
        (changed("k6", &|it| it["identityMap"] = json!({"Email": many})), 20, "/identityMap"),
        (changed("k7", &|it| it["count"] = Value::Null), 1, "/count"),
    ];
    for (payload, identities, path) in &kept {
        let answer = client.append("web", &[payload]).await.unwrap();
        let [result] = &*answer.results else { panic!("{answer:?}") };
        assert_eq!(result.outcome(), Outcome::Tagged, "{path}");
        let event = client.get(result.position).await.unwrap();
        assert_eq!(event.violations, result.violations);
        assert!(event.violations.iter().any(|it| it.instance_path == *path), "{event:?}");
        assert_eq!(event.identities.len(), *identities, "{path}");
        assert!(path != &"/identityMap" || event.identities.iter().all(|it| !it.primary));
        assert_eq!(json_of(&event), payload);
    }
    // A time that the dataset does not take is one that can be read.
    let dataset = pb::Dataset {
        name: "web".into(),
        timestamps: Some(pb::TimestampPolicy {
            max_ahead: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["timestamps".into()] });
    let dataset = Some(dataset);
    let update = pb::UpdateDatasetRequest { dataset, update_mask, ..Default::default() };
    client.datasets.clone().update_dataset(update).await.unwrap();
    let late = changed("late", &|it| it["timestamp"] = json!("2999-01-01T00:00:00Z"));
    let answer = client.append("web", &[late]).await.unwrap();
    assert_eq!(answer.results[0].violations[0].instance_path, "/timestamp");
    let stats = client.dataset("web").await.unwrap().stats.unwrap();
    assert_eq!((stats.events, stats.tagged_events), (1, kept.len() as u64 + 1));
    client.verify().await.unwrap();
}

#[tokio::test]
async fn a_request_may_be_stricter_than_its_dataset_and_never_laxer() {
    use pb::OnInvalid::{Quarantine, Reject, Tag, Unspecified};
    let server = Server::start();
    let client = server.client().await;
    client.register(purchase_schema().to_string()).await.unwrap();
    let policies = [Reject, Quarantine, Tag];
    for policy in policies {
        let name = policy.as_str_name().to_lowercase();
        let schema_id = PURCHASE.to_owned();
        let mut dataset = pb::Dataset { name, schema_id, ..Default::default() };
        dataset.set_on_invalid(policy);
        client.create_dataset(dataset).await.unwrap();
    }
    for dataset in policies {
        for asked in [Unspecified, Reject, Quarantine, Tag] {
            let name = dataset.as_str_name().to_lowercase();
            let id = format!("e-{asked:?}");
            let mut append = request(&name, &[mispriced(&id, "a@b.c").to_string()]);
            append.set_mode(pb::AppendMode::PerEvent);
            append.set_on_invalid(asked);
            let answer = client.append_request(append).await;
            let asked = if asked == Unspecified { dataset } else { asked };
            if asked as i32 > dataset as i32 {
                expect(answer, "ARGUMENT_INVALID", &["on_invalid"]);
                continue;
            }
            let expected = match asked {
                Unspecified | Reject => Outcome::Rejected,
                Quarantine => Outcome::Quarantined,
                Tag => Outcome::Tagged,
            };
            assert_eq!(answer.unwrap().results[0].outcome(), expected, "{dataset:?} {asked:?}");
        }
    }
    let mut append = request("tag", &[mispriced("all", "a@b.c").to_string()]);
    append.set_on_invalid(Quarantine);
    expect(client.append_request(append.clone()).await, "EVENT_VIOLATES_SCHEMA", &[]);
    append.on_invalid = 9;
    expect(client.append_request(append).await, "ARGUMENT_INVALID", &["on_invalid"]);
    let filter = pb::EventFilter { tagged: 9, ..Default::default() };
    expect(client.count(filter).await, "ARGUMENT_INVALID", &["filter.tagged"]);
}

/// What the test knows of a stored event.
struct Known {
    position: u64,
    dataset: &'static str,
    event_type: &'static str,
    tagged: bool,
}

/// Every filter selects what it should, whatever part of the index answers.
async fn agree(client: &Client, known: &[Known]) {
    use pb::TaggedEvents::{Included, LeftOut, Only};
    for dataset in ["", "one", "two"] {
        for event_type in ["", "a.b", "a.*", "c"] {
            for tagged in [LeftOut, Included, Only] {
                let list = |it: &str| if it.is_empty() { vec![] } else { vec![it.to_owned()] };
                let filter = pb::EventFilter {
                    datasets: list(dataset),
                    event_types: list(event_type),
                    ..with(tagged, pb::EventFilter::default())
                };
                let is_type = |it: &str| match event_type {
                    "a.*" => it.starts_with("a."),
                    exact => exact.is_empty() || it == exact,
                };
                let wanted = known
                    .iter()
                    .filter(|it| dataset.is_empty() || it.dataset == dataset)
                    .filter(|it| is_type(it.event_type))
                    .filter(|it| tagged == Included || it.tagged == (tagged == Only));
                let wanted: Vec<u64> = wanted.map(|it| it.position).collect();
                assert_eq!(positions(client, filter.clone()).await, wanted, "{filter:?}");
            }
        }
    }
    for dataset in ["one", "two"] {
        let of = |tagged| {
            known.iter().filter(|it| it.dataset == dataset && it.tagged == tagged).count() as u64
        };
        let stats = client.dataset(dataset).await.unwrap().stats.unwrap();
        assert_eq!((stats.events, stats.tagged_events), (of(false), of(true)), "{dataset}");
    }
}

#[tokio::test]
async fn filters_tell_tagged_events_in_every_part_of_the_index() {
    let server = Server::start();
    let client = server.client().await;
    set_up(&client, "one").await;
    set_up(&client, "two").await;
    let mut random = Random::seeded("tagged", 11);
    let mut known: Vec<Known> = Vec::new();
    for round in 0..3 {
        for number in 0..40 {
            let dataset = *random.one_of(&["one", "two"]);
            let event_type = *random.one_of(&["a.b", "a.d", "c"]);
            // In the second round only valid ones: a part of the index without any.
            let tagged = round != 1 && random.below(3) == 0;
            let mut event = purchase(&format!("{round}-{number}"), "a@b.c");
            event["eventType"] = json!(event_type);
            if tagged {
                event["count"] = json!("many");
            }
            let answer = client.append(dataset, &[event.to_string()]).await.unwrap();
            let position = answer.results[0].position;
            assert_eq!(answer.results[0].outcome() == Outcome::Tagged, tagged);
            known.push(Known { position, dataset, event_type, tagged });
        }
        agree(&client, &known).await;
        // Ends a volume, and with it a part of the index.
        client.compact().await.unwrap();
        agree(&client, &known).await;
    }
    // Both kinds go, and are counted.
    let gone = known.iter().filter(|it| it.dataset == "one" && it.position < 60).count() as u64;
    assert_eq!(client.trim("one", 60).await.unwrap().removed_events, gone);
    known.retain(|it| it.dataset != "one" || it.position >= 60);
    agree(&client, &known).await;
    client.compact().await.unwrap();
    agree(&client, &known).await;
    client.verify().await.unwrap();
    let server = Server::start_on(server.kill());
    let client = server.client().await;
    agree(&client, &known).await;
    client.verify().await.unwrap();
    // What is saved of a store is what it was.
    let dir = server.stop().await;
    let saved = dir.beside("saved");
    std::fs::create_dir_all(saved.disk()).unwrap();
    let mut salvage = milepost();
    salvage.arg("verify").arg("--data-dir").arg(dir.data()).arg("--salvage").arg(saved.data());
    let output = salvage.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let server = Server::start_on(saved);
    let client = server.client().await;
    agree(&client, &known).await;
    client.verify().await.unwrap();
}
