use std::{collections::BTreeSet, path::PathBuf};

use crate::config::{Config, ENV_PREFIX, Resolved, SETTINGS, Sources};

fn sources(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Sources {
    Sources {
        flags: flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect(),
        env: env
            .iter()
            .map(|(name, text)| (format!("{ENV_PREFIX}{name}"), (*text).into()))
            .collect(),
        file: Some((PathBuf::from("m.toml"), file.to_owned())),
    }
}

#[track_caller]
fn check(sources: &Sources, expected: &str) {
    let found = match Resolved::from_sources(sources) {
        Ok(resolved) => resolved.describe(),
        Err(error) => error.to_string(),
    };
    assert!(found.contains(expected), "wanted `{expected}` in\n{found}");
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file = "\nlog = \"warn\"\n";
    check(&sources(&[], &[], ""), "log = \"info\"  # default\n");
    check(&sources(&[], &[], file), "log = \"warn\"  # m.toml line 2\n");
    check(&sources(&[], &[("LOG", "debug")], file), "log = \"debug\"  # MILEPOST_LOG\n");
    check(&sources(&[("log", "trace")], &[("LOG", "debug")], file), "log = \"trace\"  # --log\n");
    let flags = [("data_dir", "d")];
    check(&sources(&flags, &[], ""), "data_dir = \"d\"  # --data-dir\n");
}

#[test]
fn sizes_and_seconds_are_read_and_bounded() {
    check(&sources(&[("cache_bytes", "8 MiB")], &[], ""), "cache_bytes = 8388608  #");
    check(&sources(&[("cache_bytes", "2GiB")], &[], ""), "cache_bytes = 2147483648  #");
    check(&sources(&[], &[], "cache_bytes = 1_048_576"), "cache_bytes = 1048576  #");
    check(
        &sources(&[], &[], "cache_bytes = 5"),
        "m.toml line 1: `cache_bytes` is `5`, allowed: 1MiB",
    );
    check(&sources(&[("queue_bytes", "1MiB")], &[], ""), "allowed: 16MiB to 1024MiB");
    check(
        &sources(&[], &[("DRAIN_TIMEOUT", "-1")], ""),
        "`drain_timeout` is `-1`, allowed: 0 to 3600 s",
    );
    check(&sources(&[], &[], "drain_timeout = 0"), "drain_timeout = 0  #");
    check(&sources(&[], &[], "drain_timeout = 1.5"), "is `(float)`");
}

#[test]
fn what_no_setting_takes_is_refused_with_its_place() {
    check(&sources(&[("listen", "7373")], &[], ""), "--listen: `listen` is `7373`, allowed: an IP");
    check(
        &sources(&[], &[("LOG_FORMAT", "xml")], ""),
        "MILEPOST_LOG_FORMAT: `log_format` is `xml`",
    );
    check(&sources(&[("log", "a=b=c")], &[], ""), "allowed: a log filter");
    check(&sources(&[], &[], "\n\nlisten = 'x"), "m.toml line 3: ");
    check(
        &sources(&[], &[], "log = 'info'\nlisen = 'x'"),
        "m.toml line 2: unknown key `lisen`; known:",
    );
    check(&sources(&[], &[("LISEN", "x")], ""), "unknown environment variable `MILEPOST_LISEN`");
}

#[test]
fn variables_of_clients_and_of_kubernetes_are_not_settings() {
    let env = [
        ("SERVER", "x"),
        ("CONFIG", "y"),
        ("PORT", "tcp://10.0.0.1:7373"),
        ("PORT_7373_TCP_ADDR", "10.0.0.1"),
        ("SERVICE_HOST", "10.0.0.1"),
    ];
    check(&sources(&[], &env, ""), "listen = \"127.0.0.1:7373\"  # default\n");
}

#[test]
fn the_description_is_a_file_that_gives_the_same_configuration() {
    let first = Resolved::from_sources(&sources(
        &[("data_dir", "a \"quoted\" dir"), ("listen", "[::1]:0"), ("log_format", "json")],
        &[],
        "",
    ))
    .unwrap();
    let again = Resolved::from_sources(&sources(&[], &[], &first.describe())).unwrap();
    assert_eq!(first.config, again.config);
}

#[test]
fn every_default_is_a_value_its_setting_takes() {
    for setting in SETTINGS {
        let file = format!("{} = {}", setting.name, setting.default_text());
        let resolved = Resolved::from_sources(&sources(&[], &[], &file)).unwrap();
        assert_eq!(resolved.config, Config::default(), "{file}");
    }
    let names: BTreeSet<_> = SETTINGS.iter().map(|it| it.name).collect();
    assert_eq!(names.len(), SETTINGS.len(), "a name twice");
    for setting in SETTINGS {
        assert_eq!(setting.flag, format!("--{}", setting.name.replace('_', "-")));
    }
}
