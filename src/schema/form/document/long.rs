//! From wire form back to long form.

use jsonschema::Draft;
use serde_json::{Map, Value};

use crate::{
    model::json::push_token,
    schema::{
        form::document::{LONG_FORM, WIRE_FORM, XDM_FIELD, is_namespace, long_name},
        keyword::{Applies, Holds, subschemas},
    },
};

/// The long form of a document in wire form; of one that came from the long form exactly that.
pub(in crate::schema) fn to_long(document: &Value, draft: Draft) -> Value {
    Reader { draft }.schema(document, None)
}

struct Reader {
    draft: Draft,
}

impl Reader {
    fn schema(&self, schema: &Value, above: Option<&str>) -> Value {
        let Value::Object(members) = schema else { return schema.clone() };
        let kept = members.get(LONG_FORM);
        let mut long = Map::new();
        let mut extras = Map::new();
        for (key, held) in members {
            match (key.as_str(), held) {
                (LONG_FORM, _) => (),
                ("properties", Value::Object(properties)) => {
                    let mut found = Map::new();
                    let mut folded = false;
                    for (name, field) in properties {
                        let mut path = vec![name.clone()];
                        folded |= self.field(field, above, &mut path, &mut found, &mut extras);
                    }
                    if !(folded && found.is_empty()) {
                        long.insert(key.clone(), Value::Object(found));
                    }
                }
                ("required", Value::Array(_)) => {
                    long.insert(key.clone(), long_required(members));
                }
                _ => {
                    long.insert(key.clone(), self.keyword(key, held, above));
                }
            }
        }
        if let Some(Value::Object(kept)) = kept {
            for (key, original) in kept {
                long.insert(key.clone(), original.clone());
            }
        }
        if !extras.is_empty() {
            long.insert(WIRE_FORM.into(), Value::Object(extras));
        }
        Value::Object(long)
    }

    /// Adds the field at `path`, or all below it when it is a namespace; tells whether it was one.
    fn field(
        &self,
        field: &Value,
        above: Option<&str>,
        path: &mut Vec<String>,
        found: &mut Map<String, Value>,
        extras: &mut Map<String, Value>,
    ) -> bool {
        if let Some(name) = long_name(field) {
            let mut members = field.as_object().cloned().unwrap_or_default();
            members.remove(XDM_FIELD);
            let long = match members.get(LONG_FORM) {
                Some(Value::Object(_)) | None => self.schema(&Value::Object(members), Some(name)),
                Some(original) => original.clone(),
            };
            found.insert(name.to_owned(), long);
            return false;
        }
        let inner = field.get("properties").and_then(Value::as_object);
        if let Some(inner) = inner.filter(|_| is_namespace(field, above, path)) {
            let extra = field.as_object().into_iter().flatten().filter(|(key, _)| {
                !matches!(key.as_str(), "type" | "properties" | "required" | "additionalProperties")
            });
            let extra: Map<String, Value> =
                extra.map(|(key, it)| (key.clone(), it.clone())).collect();
            if !extra.is_empty() {
                let mut at = String::new();
                for it in path.iter() {
                    push_token(&mut at, it);
                }
                extras.insert(at, Value::Object(extra));
            }
            for (name, field) in inner {
                path.push(name.clone());
                self.field(field, above, path, found, extras);
                path.pop();
            }
            return true;
        }
        let name = path.last().cloned().unwrap_or_default();
        let long = self.schema(field, Some(&name));
        found.insert(name, long);
        false
    }

    fn keyword(&self, key: &str, held: &Value, above: Option<&str>) -> Value {
        let Some((applies, holds)) = subschemas(key, self.draft) else { return held.clone() };
        let above = above.filter(|_| applies != Applies::Apart && key != "patternProperties");
        match (holds, held) {
            (Holds::List | Holds::SchemaOrList, Value::Array(items)) => {
                items.iter().map(|it| self.schema(it, above)).collect()
            }
            (Holds::Map, Value::Object(map)) => {
                let schemas = map.iter().map(|(key, it)| (key.clone(), self.schema(it, above)));
                Value::Object(schemas.collect())
            }
            (Holds::Schema | Holds::SchemaOrList, _) => self.schema(held, above),
            (Holds::Map | Holds::List, _) => held.clone(),
        }
    }
}

/// The long names of the properties that must be there, as far as the schema itself tells.
fn long_required(members: &Map<String, Value>) -> Value {
    let required = members.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let properties = members.get("properties");
    let long = |name: &str| {
        let field = properties.and_then(|it| it.get(name));
        field.and_then(long_name).unwrap_or(name).to_owned()
    };
    required.iter().map(|it| it.as_str().map_or_else(|| it.clone(), |it| long(it).into())).collect()
}
