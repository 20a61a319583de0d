//! What may be said about fields.

use serde_json::{Value, json};

use crate::schema::{
    Cardinality, Descriptor, DescriptorKind, EventFields, IdentityField, Relationship, closure,
    tests::Library,
};

const ID: &str = "https://x.test/r";

fn descriptor(path: &str, kind: DescriptorKind) -> Descriptor {
    Descriptor { schema_id: ID.into(), path: path.into(), kind }
}

fn identity(namespace: &str, primary: bool) -> DescriptorKind {
    DescriptorKind::Identity { namespace: namespace.into(), primary }
}

fn label(labels: &[&str]) -> DescriptorKind {
    DescriptorKind::Label(labels.iter().map(ToString::to_string).collect())
}

fn relationship(path: &str) -> DescriptorKind {
    let (schema_id, path) = (ID.to_owned(), path.to_owned());
    DescriptorKind::Relationship(Relationship { schema_id, path, ..Relationship::default() })
}

fn deprecated(successor: &str) -> DescriptorKind {
    DescriptorKind::Deprecated { successor: successor.into(), reason: String::new() }
}

/// Fields of the contract that are wrong with a descriptor, by itself or of its schema.
#[track_caller]
fn check(descriptor: &Descriptor, expected: &[&str]) {
    let library = Library::of(&[
        json!({"$id": ID, "allOf": [{"$ref": "https://x.test/t"}], "properties": {
            "id": {"type": "string"}, "code": {"enum": ["a"], "type": "string"},
            "at": {"type": "string", "format": "date-time"}, "count": {"type": "integer"},
            "any": {}, "a/b": {"type": "string"},
            "list": {"type": "array", "items": {"properties": {"id": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}
        }}),
        json!({"$id": "https://x.test/t", "properties": {
            "inner": {"properties": {"id": {"$ref": "#/definitions/id"}}}
        }, "definitions": {"id": {"type": "string"}}}),
    ]);
    let root = library.get(ID);
    let closure = closure(&root, |id| library.find(id)).unwrap();
    let mut faults = descriptor.faults();
    if faults.is_empty() {
        faults = descriptor.misfits(&root, &closure);
        faults.extend(descriptor.destination_misfits(&root, &closure));
    }
    let found: Vec<&str> = faults.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(found, expected, "{descriptor:?}: {faults:?}");
    let read = Descriptor::from_xdm(&descriptor.to_xdm()).unwrap();
    assert_eq!(read, *descriptor);
}

#[test]
fn a_descriptor_fits_its_field() {
    for path in ["/id", "/code", "/inner/id", "/a~1b"] {
        check(&descriptor(path, identity("Email", true)), &[]);
    }
    let none = ["", "id", "/id/", "//id", "/nothing", "/inner", "/at", "/count", "/any", "/list"];
    for path in none.into_iter().chain(["/list/*/id", "/map/*", "/map/x", "/id/more"]) {
        check(&descriptor(path, identity("Email", false)), &["path"]);
    }
    check(&descriptor("/id", identity("", false)), &["identity.namespace"]);
    check(&descriptor("/id", identity(&"n".repeat(65), false)), &["identity.namespace"]);
    check(&descriptor("/id", identity("a\u{1}", false)), &["identity.namespace"]);
    check(&descriptor(&format!("/{}", "p".repeat(1024)), identity("E", false)), &["path"]);

    check(&descriptor("/at", DescriptorKind::Timestamp), &[]);
    check(&descriptor("/id", DescriptorKind::Timestamp), &["path"]);
    check(&descriptor("/count", DescriptorKind::Version), &[]);
    check(&descriptor("/at", DescriptorKind::Version), &[]);
    check(&descriptor("/id", DescriptorKind::Version), &["path"]);

    check(&descriptor("/id", relationship("")), &[]);
    check(&descriptor("/list/*/id", relationship("/inner/id")), &[]);
    check(&descriptor("/inner", relationship("")), &["path"]);
    check(&descriptor("/id", relationship("/none")), &["relationship.destination_path"]);
    check(&descriptor("/id", relationship("none")), &["relationship.destination_path"]);

    check(&descriptor("/list/*", label(&["I1", "own"])), &[]);
    check(&descriptor("/map/*", label(&["S1"])), &[]);
    check(&descriptor("/list/0", label(&["S1"])), &["path"]);
    check(&descriptor("/id", label(&[])), &["label.labels"]);
    check(&descriptor("/id", label(&["a", ""])), &["label.labels[1]"]);
    check(&descriptor("/id", label(&["a", "a"])), &["label.labels[1]"]);
    check(&descriptor("/id", label(&[&"l".repeat(65)])), &["label.labels[0]"]);
    check(&descriptor("/id", label(&["x"; 33])), &["label.labels"]);

    check(&descriptor("/any", deprecated("/inner/id")), &[]);
    check(&descriptor("/any", deprecated("/none")), &["deprecated.successor_path"]);

    let named = |language: &str, text: &str| DescriptorKind::FriendlyName {
        titles: [(language.to_owned(), text.to_owned())].into(),
        descriptions: [].into(),
    };
    check(&descriptor("/inner", named("en_us", "Inner")), &[]);
    check(&descriptor("/inner", named("en us", "Inner")), &["friendly_name.titles[en us]"]);
    let long = "t".repeat(1025);
    check(&descriptor("/inner", named("de", &long)), &["friendly_name.titles[de]"]);
    let nothing = DescriptorKind::FriendlyName { titles: [].into(), descriptions: [].into() };
    check(&descriptor("/inner", nothing), &["friendly_name"]);
}

#[test]
fn what_xdm_has_written_is_read() {
    let base = |more: Value| {
        let mut value = json!({"xdm:sourceSchema": ID, "xdm:sourceProperty": "/id"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Descriptor::from_xdm(&value)
    };
    let one = base(json!({"@type": "xdm:descriptorOneToOne", "xdm:destinationSchema": "urn:a",
        "xdm:destinationProperty": "/b", "xdm:destinationVersion": 1}));
    let relationship = Relationship {
        schema_id: "urn:a".into(),
        path: "/b".into(),
        namespace: String::new(),
        cardinality: Cardinality::OneToOne,
    };
    assert_eq!(one.unwrap().kind, DescriptorKind::Relationship(relationship));
    let plain = Descriptor::from_xdm(&json!({"@type": "descriptorIdentity",
        "sourceSchema": ID, "sourceProperty": "/id", "namespace": "Email", "isPrimary": true}));
    assert_eq!(plain.unwrap(), descriptor("/id", identity("Email", true)));
    for bad in [
        json!({}),
        json!({"@type": "xdm:descriptorPrimaryKey"}),
        json!({"@type": "xdm:descriptorIdentity", "xdm:property": "xdm:id"}),
        json!({"@type": "xdm:descriptorIdentity", "xdm:isPrimary": "yes"}),
        json!({"@type": "xdm:descriptorRelationship", "xdm:cardinality": "2:1"}),
        json!({"@type": "xdm:descriptorLabel"}),
        json!({"@type": "xdm:descriptorLabel", "xdm:labels": [1]}),
        json!({"@type": "xdm:alternateDisplayInfo", "xdm:title": "Name"}),
        json!({"@type": "xdm:descriptorVersion", "xdm:sourceProperty": ["/a"]}),
    ] {
        assert!(base(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn descriptors_beside_the_schema_win() {
    let field = |path: &str, namespace: &str, primary| IdentityField {
        path: path.into(),
        namespace: namespace.into(),
        primary,
    };
    let own = EventFields {
        identities: vec![field("/a", "Email", true), field("/b", "Phone", false)],
        ..EventFields::default()
    };
    assert_eq!(own.with([].iter()), own);
    let said = [
        descriptor("/b", identity("CRM", true)),
        descriptor("/at", DescriptorKind::Timestamp),
        descriptor("/count", DescriptorKind::Version),
        descriptor("/b", label(&["I1"])),
    ];
    let both = own.with(said.iter());
    assert_eq!(both.identities, [field("/b", "CRM", true), field("/a", "Email", false)]);
    assert_eq!((both.time.as_deref(), both.version.as_deref()), (Some("/at"), Some("/count")));
}
