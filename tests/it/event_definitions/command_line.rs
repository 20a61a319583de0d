//! `milepost event-definition`.

use serde_json::{Value, json};

use crate::{
    cli::{check, run},
    event_definitions::get,
    support::{
        Server,
        events::{PURCHASE, purchase_text, purchases},
    },
};

const DEFINITION: &str = "event-definition";

#[tokio::test]
async fn a_definition_is_created_tried_explained_and_deleted() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let condition = "commerce.order.priceTotal > 10.0";
    let create = |name: &'static str, condition: &'static str| {
        [DEFINITION, "create", name, "--schema", PURCHASE, "--condition", condition, "--live"]
    };
    check(&server, &create("large", condition), 0, &["large", "LIVE", condition]);
    check(&server, &create("typo", "comerce == null"), 1, &["did you mean `commerce`?"]);
    client.append("web", &[purchase_text("a", "ann@example.com")]).await.unwrap();
    for (arguments, status, words) in [
        (&["list"][..], 0, &["NAME", "large", "UNITARY_RULE"][..]),
        (&["list", "--state", "paused"], 0, &["NAME"]),
        (&["show", "large"], 0, &["1 from position 1"]),
        (&["show", "none"], 1, &["EVENT_DEFINITION_NOT_FOUND"]),
        (&["test", "large"], 0, &["1 tested, 1 matched, 1 delivered", "Email:ann@example.com"]),
        (&["explain", "large", "1"], 0, &["delivered to", "yes", "priceTotal is 99.5"]),
        (&["preview", "large"], 0, &["\"priceTotal\": 10.5", "identityMap"]),
        (&["set", "large", "paused"], 0, &["PAUSED"]),
        (&["set", "large", "draft"], 1, &["wanted PAUSED"]),
        (&["discards", "large"], 0, &[]),
        (&["test"], 2, &["NAME"]),
    ] {
        let arguments: Vec<&str> = [DEFINITION].iter().chain(arguments).copied().collect();
        check(&server, &arguments, status, words);
    }
    check(&server, &["count", "--definition", "large"], 0, &["1"]);
    check(&server, &["count", "--where", condition], 0, &["1"]);
    check(&server, &["read", "--deliver-as", "large"], 0, &["commerce.purchases"]);
    client.append("web", &[purchase_text("b", "ann@example.com")]).await.unwrap();
    let words = ["DEFINITION_NOT_LIVE", "PAUSED"];
    check(&server, &[DEFINITION, "discards", "large"], 0, &words);
    check(&server, &[DEFINITION, "delete", "large"], 0, &["deleted `large`"]);
}

#[tokio::test]
async fn files_make_definitions_as_they_say() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let file = server.dir().path("definitions.json");
    let write = |definitions: &Value| std::fs::write(&file, definitions.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let apply = [DEFINITION, "apply", "-f", path];
    let definition = |name: &str, condition: &str| {
        json!({
            "name": name, "kind": "UNITARY_RULE", "schema_id": PURCHASE,
            "condition": condition, "state": "LIVE"
        })
    };
    write(&json!([definition("a", "count > 1"), definition("b", "count > 2")]));
    check(&server, &apply, 0, &["`a` created", "`b` created"]);
    check(&server, &apply, 0, &["`a` unchanged", "`b` unchanged"]);
    write(&json!([definition("a", "count > 1"), definition("b", "count > 3")]));
    let dry = [DEFINITION, "apply", "-f", path, "--validate-only"];
    check(&server, &dry, 0, &["`b` changed: condition"]);
    check(&server, &apply, 0, &["`a` unchanged", "`b` changed: condition"]);
    assert_eq!(get(&client, "b").await.unwrap().event_definition.unwrap().version, 2);
    // What is shown is a file, too.
    let shown = run(&server, &[DEFINITION, "show", "b", "--output", "json"], "");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let again = run(&server, &[DEFINITION, "apply", "-f", "-"], &shown);
    assert!(again.status.success(), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("`b` unchanged"), "{again:?}");
    let mut other = definition("a", "count > 1");
    other["kind"] = json!("BUSINESS");
    write(&other);
    check(&server, &apply, 2, &["another kind"]);
    write(&definition("a", "count >"));
    check(&server, &apply, 1, &["column 8", "wanted a value"]);
    write(&json!({"name": "a", "conditon": "true"}));
    check(&server, &apply, 2, &["`a`", "conditon"]);
    std::fs::write(&file, "nothing").unwrap();
    check(&server, &apply, 2, &[path]);
}
