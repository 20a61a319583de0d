//! Whose fields stand where.

use serde_json::{Value, json};

use crate::{
    model::Tenant,
    schema::{
        SchemaProblem, check_tenant, closure,
        tests::{
            Library,
            library::{data, library},
        },
    },
};

const CLASS: &str = "https://ns.adobe.com/xdm/context/experienceevent";

/// The places of a document that are not under `_acme`.
#[track_caller]
fn check(document: Value, others: &[Value], expected: &[&str]) {
    let id = "https://x.test/own";
    let mut documents = others.to_vec();
    let mut own = document;
    own["$id"] = json!(id);
    documents.push(own);
    let mut library = Library::of(&documents);
    library.add_built_ins();
    let root = library.get(id);
    let closure = closure(&root, |id| library.find(id)).unwrap();
    let found = match check_tenant(&root, &closure, &Tenant::parse("acme").unwrap()) {
        Ok(()) => Vec::new(),
        Err(SchemaProblem::Tenant(faults)) => faults.into_iter().map(|it| it.pointer).collect(),
        Err(problem) => panic!("{problem}"),
    };
    assert_eq!(found, expected);
}

#[test]
fn own_fields_stand_under_the_tenant() {
    check(json!({"properties": {"_acme": {"properties": {"points": {}}}}}), &[], &[]);
    check(
        json!({"properties": {"points": {}, "tier": {}}}),
        &[],
        &["/properties/points", "/properties/tier"],
    );
    check(
        json!({"properties": {"_other": {"properties": {"a": {}}}}}),
        &[],
        &["/properties/_other"],
    );
    check(
        json!({"definitions": {"a": {"properties": {"b": {}}}, "unused": {"properties": {"c": {}}}},
            "allOf": [{"$ref": "#/definitions/a"}, {"properties": {"d/e": {}}}]}),
        &[],
        &["/allOf/1/properties/d~1e", "/definitions/a/properties/b"],
    );
    check(json!({"oneOf": [{"properties": {"a": {}}}, {}]}), &[], &["/oneOf/0/properties/a"]);
    // In long form a tenant's name is a URI.
    let uri = "https://ns.adobe.com/acme/loyalty";
    check(json!({"properties": {uri: {}}}), &[], &[]);
    check(json!({"properties": {"xdm:a": {}}}), &[], &["/properties/xdm:a"]);
}

#[test]
fn xdms_own_fields_may_be_said_again_and_added_to() {
    let of_class =
        |properties: Value| json!({"allOf": [{"$ref": CLASS}], "properties": properties});
    check(of_class(json!({"eventType": {"enum": ["a"]}, "_id": {"maxLength": 9}})), &[], &[]);
    check(of_class(json!({"eventKind": {}})), &[], &["/properties/eventKind"]);
    let group = json!({"$id": "https://ns.adobe.com/xdm/place", "properties": {
        "place": {"properties": {"name": {}}}}});
    let with_group = |place: Value| json!({"allOf": [{"$ref": "https://ns.adobe.com/xdm/place"}], "properties": {"place": place}});
    let groups = [group];
    check(with_group(json!({"properties": {"name": {}, "_acme": {}}})), &groups, &[]);
    check(
        with_group(json!({"properties": {"size": {}}})),
        &groups,
        &["/properties/place/properties/size"],
    );
    // A field group need not include what it adds to.
    check(json!({"properties": {"place": {"properties": {"_acme": {}}}}}), &[], &[]);
    check(
        json!({"properties": {"place": {"properties": {"_acme": {}, "size": {}}}}}),
        &[],
        &["/properties/place"],
    );
}

#[test]
fn a_data_types_fields_stand_where_it_is_used() {
    let points = json!({"$id": "https://x.test/points", "meta:resourceType": "datatypes",
        "properties": {"count": {}, "inner": {"$ref": "https://x.test/points"}}});
    check(json!({"meta:resourceType": "datatypes", "properties": {"count": {}}}), &[], &[]);
    let under = |name: &str| json!({"properties": {name: {"$ref": "https://x.test/points"}}});
    let types = [points];
    check(under("_acme"), &types, &[]);
    check(under("points"), &types, &["/properties/points"]);
    // Included at the top, its fields are at the top.
    check(json!({"allOf": [{"$ref": "https://x.test/points"}]}), &types, &["", ""]);
}

#[test]
fn the_public_library_is_exempt() {
    let Some(data) = data() else { return };
    let library = library(&data, "xed");
    let own: Vec<String> =
        library.0.values().filter(|it| !it.is_standard()).map(|it| it.id().to_owned()).collect();
    let strange: Vec<_> =
        own.iter().filter(|it| !it.starts_with("https://ns.example.com/acme/")).collect();
    assert!(strange.is_empty(), "{strange:?}");
    // Composed of standard parts, and two groups with fields under `_yourOrganizationID`.
    let refused = |tenant: &str| -> Vec<&str> {
        let tenant = Tenant::parse(tenant).unwrap();
        let is_refused = |id: &&String| {
            let root = library.get(id);
            let closure = closure(&root, |id| library.find(id)).unwrap();
            check_tenant(&root, &closure, &tenant).is_err()
        };
        let mut refused: Vec<&str> = own.iter().filter(is_refused).map(String::as_str).collect();
        refused.sort_unstable();
        refused
    };
    assert_eq!(refused("yourOrganizationID"), [""; 0]);
    let groups = ["luma-inventory-event", "luma-system-identifier"];
    assert_eq!(
        refused("acme"),
        groups.map(|it| format!("https://ns.example.com/acme/mixins/{it}"))
    );
}
