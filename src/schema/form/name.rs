//! How a name of the long form is written in wire form.

/// The host of XDM's own namespaces; wire names leave it out.
const XDM_HOST: &str = "ns.adobe.com";

/// Where a property of the long form is in wire form: one name, or nested ones.
///
/// `above` is the long name of the property that directly contains it, in the same document: two URIs
/// that share a directory tell it once, in the outer name.
pub(super) fn wire_path(name: &str, above: Option<&str>) -> Vec<String> {
    if let Some(local) = name.strip_prefix("xdm:").filter(|it| !it.is_empty()) {
        return vec![local.to_owned()];
    }
    if let Some(local) = name.strip_prefix('@').filter(|it| !it.is_empty()) {
        return vec![format!("_{local}")];
    }
    if let Some(uri) = without_scheme(name) {
        let shared = above.and_then(|it| below(uri, without_scheme(it)?));
        let path = match shared {
            Some(rest) => segments(rest).collect(),
            None => namespace_path(uri),
        };
        return if path.is_empty() { vec![name.to_owned()] } else { path };
    }
    match prefix(name) {
        Some((prefix, local)) => vec![format!("_{prefix}"), local.to_owned()],
        None => vec![name.to_owned()],
    }
}

/// Whether a name has a shape that only the long form has.
pub(super) fn is_long(name: &str) -> bool {
    wire_path(name, None) != [name]
}

/// The long name of a wire path that no schema knows: of one in a namespace what its neighbours have;
/// a single name stays as it is.
pub(super) fn likely_long(path: &[String]) -> String {
    let bare = |it: &String| it.trim_start_matches('_').to_owned();
    match path {
        [] => String::new(),
        [name] => name.clone(),
        [prefix, name] if prefix != "_experience" => format!("{}:{name}", bare(prefix)),
        path => {
            let path: Vec<String> = path.iter().map(bare).collect();
            format!("https://{XDM_HOST}/{}", path.join("/"))
        }
    }
}

fn without_scheme(name: &str) -> Option<&str> {
    name.strip_prefix("https://").or_else(|| name.strip_prefix("http://"))
}

/// What is left of `uri` below `above`, or below the directory of `above`.
fn below<'a>(uri: &'a str, above: &str) -> Option<&'a str> {
    let inside = uri.strip_prefix(above).and_then(|it| it.strip_prefix('/'));
    let beside = || {
        let (directory, _) = above.rsplit_once('/')?;
        let rest = uri.strip_prefix(directory)?.strip_prefix('/')?;
        // Only a name of its own: the outer one again would be nested in itself.
        (!rest.contains('/') && uri != above).then_some(rest)
    };
    inside.or_else(beside).filter(|it| segments(it).next().is_some())
}

fn namespace_path(uri: &str) -> Vec<String> {
    let uri = uri.strip_prefix(XDM_HOST).unwrap_or(uri);
    let uri = uri.strip_prefix("/xdm/").unwrap_or(uri);
    let mut path: Vec<String> = segments(uri).collect();
    if let Some(first) = path.first_mut() {
        first.insert(0, '_');
    }
    path
}

fn segments(uri: &str) -> impl Iterator<Item = String> + '_ {
    uri.split(['/', '#']).filter(|it| !it.is_empty()).map(camel_case)
}

/// `direct-mail` as `directMail`: names on the wire have no hyphens.
fn camel_case(segment: &str) -> String {
    let mut words = segment.split('-').filter(|it| !it.is_empty());
    let mut out = words.next().unwrap_or(segment).to_owned();
    for word in words {
        let mut characters = word.chars();
        out.extend(characters.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(characters.as_str());
    }
    out
}

/// A namespace prefix, such as `schema` of `schema:latitude`, and what follows it.
fn prefix(name: &str) -> Option<(&str, &str)> {
    let (prefix, local) = name.split_once(':')?;
    let starts_well = prefix.starts_with(|it: char| it.is_ascii_alphabetic());
    let plain = prefix.chars().all(|it| it.is_ascii_alphanumeric());
    (starts_well && plain && !local.is_empty() && !local.starts_with('/'))
        .then_some((prefix, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, above: Option<&str>, expected: &str) {
        assert_eq!(wire_path(name, above).join("."), expected);
        assert_eq!(is_long(name), wire_path(name, None) != [name]);
    }

    #[test]
    fn names_follow_the_rules() {
        check("xdm:birthDate", None, "birthDate");
        check("xdm:a:b", None, "a:b");
        check("xdm:", None, "xdm:");
        check("@id", None, "_id");
        check("@", None, "@");
        check("schema:latitude", None, "_schema.latitude");
        check("iptc4xmpExt:Name", Some("xdm:a"), "_iptc4xmpExt.Name");
        for plain in ["plain", "_page", "*Pass", "a b:c", "a:", ":a", "$ref", "", "1:2", "a:/b"] {
            check(plain, None, plain);
            assert!(!is_long(plain));
        }
    }

    #[test]
    fn uris_become_paths() {
        let ns = |path: &str| format!("https://ns.adobe.com/{path}");
        let orchestration = ns("experience/campaign/orchestration");
        check(&orchestration, None, "_experience.campaign.orchestration");
        check(&ns("xdm/channels/direct-mail"), None, "_channels.directMail");
        check(&ns("acme/points#total"), None, "_acme.points.total");
        check("http://example.com/a/b", None, "_example.com.a.b");
        check("https://ns.adobe.com/", None, "https://ns.adobe.com/");
    }

    #[test]
    fn a_uri_within_a_uri_says_what_is_new() {
        let ns = |path: &str| format!("https://ns.adobe.com/experience/{path}");
        let steps = ns("journeyOrchestration/stepEvents");
        check(&ns("journeyOrchestration/nodeID"), Some(&steps), "nodeID");
        check(&ns("journeyOrchestration/stepEvents/nodeID"), Some(&steps), "nodeID");
        check(&ns("campaign/a/b"), Some(&ns("campaign/c")), "_experience.campaign.a.b");
        check(&ns("target/x"), Some(&steps), "_experience.target.x");
        check(&steps, Some(&steps), "_experience.journeyOrchestration.stepEvents");
        check(&ns("campaign/x"), Some("xdm:list"), "_experience.campaign.x");
    }
}
