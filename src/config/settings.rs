//! The table of settings.

use std::{ops::RangeInclusive, time::Duration};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, ENV_CONFIG, ENV_PREFIX, ENV_SERVER, FileValues, Source, Sources},
    model::{Tenant, limits},
    telemetry::LogFormat,
};

/// One setting: what it is called everywhere, and how its text is read and shown.
pub struct Setting {
    /// Key in the file; the variable has our prefix and capitals.
    pub name: &'static str,
    /// The flag: the name with `-` for `_`.
    pub flag: &'static str,
    /// Stands for the value in help texts.
    pub value_name: &'static str,
    /// For people: units and bounds.
    pub help: &'static str,
    /// Takes the value from its text. The error tells what is allowed.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value as TOML.
    pub(super) show: fn(&Config) -> String,
}

/// Every setting, in the order of help and of `--check-config`.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        flag: "--listen",
        value_name: "ADDR",
        help: "Address and port to serve on; port 0 takes a free one",
        set: |config, text| {
            let allowed = "an IP address and a port such as `127.0.0.1:7373` or `[::1]:0`";
            config.listen = text.parse().map_err(|_unhelpful| allowed.to_owned())?;
            Ok(())
        },
        show: |config| quoted(&config.listen.to_string()),
    },
    Setting {
        name: "data_dir",
        flag: "--data-dir",
        value_name: "DIR",
        help: "Directory of the store; created when missing",
        set: |config, text| {
            if text.is_empty() {
                return Err("a path".into());
            }
            config.data_dir = text.into();
            Ok(())
        },
        show: |config| quoted(&config.data_dir.to_string_lossy()),
    },
    Setting {
        name: "drain_timeout",
        flag: "--drain-timeout",
        value_name: "SECONDS",
        help: "How long calls under way may take to end after a signal; 0 to 3600 seconds",
        set: |config, text| {
            config.drain_timeout = Duration::from_secs(number(text, 0..=3600, "seconds")?);
            Ok(())
        },
        show: |config| config.drain_timeout.as_secs().to_string(),
    },
    Setting {
        name: "log",
        flag: "--log",
        value_name: "FILTER",
        help: "Which log lines appear: a level (error, warn, info, debug, trace), or a filter such \
               as `info,milepost::store=debug`",
        set: |config, text| {
            let parsed = EnvFilter::builder().parse(text);
            parsed.map_err(|error| format!("a log filter such as `info` ({error})"))?;
            text.clone_into(&mut config.log);
            Ok(())
        },
        show: |config| quoted(&config.log),
    },
    Setting {
        name: "log_format",
        flag: "--log-format",
        value_name: "FORMAT",
        help: "How log lines look: `text` or `json`",
        set: |config, text| {
            config.log_format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err("`text` or `json`".into()),
            };
            Ok(())
        },
        show: |config| match config.log_format {
            LogFormat::Text => quoted("text"),
            LogFormat::Json => quoted("json"),
        },
    },
    Setting {
        name: "cache_bytes",
        flag: "--cache-bytes",
        value_name: "BYTES",
        help: "Packed log blocks and rows of the index kept in memory; 1 MiB to 1 TiB, as `67108864` or `64MiB`",
        set: |config, text| {
            config.cache_bytes = bytes(text, MIB..=1024 * 1024 * MIB)?;
            Ok(())
        },
        show: |config| config.cache_bytes.to_string(),
    },
    Setting {
        name: "queue_bytes",
        flag: "--queue-bytes",
        value_name: "BYTES",
        help: "Appends that may wait for the disk; 16 MiB (one request) to 1 GiB",
        set: |config, text| {
            config.queue_bytes = bytes(text, limits::REQUEST_BYTES_MAX as u64..=1024 * MIB)?;
            Ok(())
        },
        show: |config| config.queue_bytes.to_string(),
    },
    Setting {
        name: "disk_reserve",
        flag: "--disk-reserve",
        value_name: "BYTES",
        help: "Free bytes of the disk below which appends are refused; 0 (never) to 1 PiB",
        set: |config, text| {
            config.disk_reserve = bytes(text, 0..=1024 * 1024 * 1024 * MIB)?;
            Ok(())
        },
        show: |config| config.disk_reserve.to_string(),
    },
    Setting {
        name: "retention_interval",
        flag: "--retention-interval",
        value_name: "SECONDS",
        help: "How often the server looks for events that datasets keep no longer; 1 to 3600 seconds",
        set: |config, text| {
            config.retention_interval = Duration::from_secs(number(text, 1..=3600, "seconds")?);
            Ok(())
        },
        show: |config| config.retention_interval.as_secs().to_string(),
    },
    Setting {
        name: "quarantine_bytes",
        flag: "--quarantine-bytes",
        value_name: "BYTES",
        help: "Events set aside by datasets that quarantine what they cannot store; of more the \
               oldest go, and so they do of more than 2 000 000; 1 MiB to 1 TiB",
        set: |config, text| {
            config.quarantine_bytes = bytes(text, MIB..=1024 * 1024 * MIB)?;
            Ok(())
        },
        show: |config| config.quarantine_bytes.to_string(),
    },
    Setting {
        name: "quarantine_age",
        flag: "--quarantine-age",
        value_name: "SECONDS",
        help: "How long events are set aside; 1 second to 10 years",
        set: |config, text| {
            let years = 10 * 366 * 24 * 60 * 60;
            config.quarantine_age = Duration::from_secs(number(text, 1..=years, "seconds")?);
            Ok(())
        },
        show: |config| config.quarantine_age.as_secs().to_string(),
    },
    Setting {
        name: "buffered_appends",
        flag: "--buffered-appends",
        value_name: "WHETHER",
        help: "Whether appends may ask to be answered before they are durable, which a power cut can \
               take back: `allow` or `refuse`",
        set: |config, text| {
            config.buffered_appends = match text {
                "allow" => true,
                "refuse" => false,
                _ => return Err("`allow` or `refuse`".into()),
            };
            Ok(())
        },
        show: |config| quoted(if config.buffered_appends { "allow" } else { "refuse" }),
    },
    Setting {
        name: "tenant",
        flag: "--tenant",
        value_name: "NAME",
        help: "Under `_NAME` fields of schemas must stand that are not XDM's own; empty: anywhere",
        set: |config, text| {
            config.tenant = match text {
                "" => None,
                name => Some(Tenant::parse(name)?),
            };
            Ok(())
        },
        show: |config| quoted(&config.tenant.as_ref().map(Tenant::to_string).unwrap_or_default()),
    },
];

const MIB: u64 = 1024 * 1024;

impl Setting {
    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// The default as TOML.
    #[must_use]
    pub fn default_text(&self) -> String {
        (self.show)(&Config::default())
    }

    /// The text in force and where it came from; no text means the default.
    pub(super) fn choose<'a>(
        &self,
        sources: &'a Sources,
        file: &'a FileValues,
    ) -> (Source, Option<&'a str>) {
        if let Some(text) = sources.flags.get(self.name) {
            return (Source::Flag(self.flag), Some(text));
        }
        let variable = self.variable();
        if let Some(text) = sources.env.get(&variable) {
            return (Source::Env(variable), Some(text));
        }
        match file.get(self.name) {
            Some((place, text)) => (place.clone(), Some(text)),
            None => (Source::Default, None),
        }
    }
}

pub(super) fn known() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

pub(super) fn known_variables() -> String {
    let ours: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    format!("{}, {ENV_CONFIG}, {ENV_SERVER} (clients)", ours.join(", "))
}

fn number(text: &str, allowed: RangeInclusive<u64>, unit: &str) -> Result<u64, String> {
    let parsed = text.trim().parse().ok().filter(|number| allowed.contains(number));
    parsed.ok_or_else(|| format!("{} to {} {unit}", allowed.start(), allowed.end()))
}

/// A whole number of bytes, or of `KiB`, `MiB`, `GiB`.
fn bytes(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1024), ("MiB", MIB), ("GiB", 1024 * MIB), ("B", 1)];
    let text = text.trim();
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (digits, size) = unit.unwrap_or((text, 1));
    let parsed = digits.trim().parse().ok().and_then(|number: u64| number.checked_mul(size));
    let (least, most) = (allowed.start() / MIB, allowed.end() / MIB);
    parsed
        .filter(|found| allowed.contains(found))
        .ok_or_else(|| format!("{least}MiB to {most}MiB, in bytes or with KiB, MiB or GiB"))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
