//! The server's configuration: flag > environment > file > default.
//!
//! Invariant: one table, `SETTINGS`, drives flags, variables, file keys, defaults, bounds and help.

mod settings;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use crate::{
    model::{Tenant, limits},
    telemetry::LogFormat,
};

pub use settings::{SETTINGS, Setting};

/// Prefix of every environment variable.
pub const ENV_PREFIX: &str = "MILEPOST_";
/// Names the configuration file, as `--config` does.
pub const ENV_CONFIG: &str = "MILEPOST_CONFIG";
/// The server that client commands talk to; none of the server's settings.
pub const ENV_SERVER: &str = "MILEPOST_SERVER";

/// What the server is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where calls arrive; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The store's directory; created when missing.
    pub data_dir: PathBuf,
    /// How long calls under way may take to end after the first signal.
    pub drain_timeout: Duration,
    /// Which log lines appear: a filter in `tracing`'s form.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Bytes of decoded log blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes of appends that may wait for the sequencer.
    pub queue_bytes: u64,
    /// Free bytes of the disk below which nothing is taken that makes the store grow.
    pub disk_reserve: u64,
    /// Time between two looks at what retention removes.
    pub retention_interval: Duration,
    /// Bytes of events that are set aside.
    pub quarantine_bytes: u64,
    /// How long events are set aside.
    pub quarantine_age: Duration,
    /// Under whose name fields of schemas must stand that are not XDM's own.
    pub tenant: Option<Tenant>,
    /// Appends may be answered before they are durable.
    pub buffered_appends: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7373)),
            data_dir: PathBuf::from("./milepost-data"),
            drain_timeout: Duration::from_secs(10),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            cache_bytes: limits::CACHE_BYTES,
            queue_bytes: limits::QUEUE_BYTES as u64,
            disk_reserve: limits::DISK_RESERVE_BYTES,
            retention_interval: Duration::from_secs(limits::RETENTION_INTERVAL_SECONDS),
            quarantine_bytes: limits::QUARANTINE_BYTES,
            quarantine_age: Duration::from_secs(limits::QUARANTINE_AGE_SECONDS),
            tenant: None,
            buffered_appends: false,
        }
    }
}

/// Where the values come from. Only text: tests need no process environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Values of flags by the setting's name.
    pub flags: BTreeMap<&'static str, String>,
    /// The process environment, or what stands for it.
    pub env: BTreeMap<String, String>,
    /// Path and text of the configuration file.
    pub file: Option<(PathBuf, String)>,
}

/// Where one effective value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file, at this line.
    File(PathBuf, usize),
    /// The environment variable.
    Env(String),
    /// The flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value outside what its setting allows.
    #[error("{from}: `{name}` is `{found}`, allowed: {allowed}")]
    Value {
        /// Where it stands.
        from: Source,
        /// The setting.
        name: &'static str,
        /// As found.
        found: String,
        /// What would do.
        allowed: String,
    },
    /// A key of the file that names no setting.
    #[error("{from}: unknown key `{key}`; known: {}", settings::known())]
    Key {
        /// Where it stands.
        from: Source,
        /// As found.
        key: String,
    },
    /// A variable with our prefix that names no setting.
    #[error("unknown environment variable `{name}`; known: {}", settings::known_variables())]
    Variable {
        /// As found.
        name: String,
    },
    /// The file is not TOML.
    #[error("{from}: {message}")]
    Syntax {
        /// Where reading failed.
        from: Source,
        /// The reader's words.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`: {message}", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
}

/// A configuration with the source of each value, in the table's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The effective values.
    pub config: Config,
    /// One source per setting.
    pub sources: Vec<Source>,
}

impl Resolved {
    /// Decides every setting. Reports the first value that cannot be used.
    ///
    /// # Errors
    /// Everything that `ConfigError` lists.
    pub fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        check_variables(sources.env.keys())?;
        let file = sources.file.as_ref().map_or(Ok(BTreeMap::new()), |it| read_file(it))?;
        let mut config = Config::default();
        let mut chosen = Vec::with_capacity(SETTINGS.len());
        for setting in SETTINGS {
            let (from, text) = setting.choose(sources, &file);
            if let Err(allowed) = text.map_or(Ok(()), |text| (setting.set)(&mut config, text)) {
                let found = text.unwrap_or_default().to_owned();
                return Err(ConfigError::Value { from, name: setting.name, found, allowed });
            }
            chosen.push(from);
        }
        Ok(Self { config, sources: chosen })
    }

    /// Every effective value with its source: a TOML document that gives the same configuration.
    #[must_use]
    pub fn describe(&self) -> String {
        let lines = SETTINGS.iter().zip(&self.sources).map(|(setting, source)| {
            format!("{} = {}  # {source}\n", setting.name, (setting.show)(&self.config))
        });
        lines.collect()
    }
}

/// Values of the file by the setting's name, with their places.
type FileValues = BTreeMap<&'static str, (Source, String)>;

fn read_file((path, text): &(PathBuf, String)) -> Result<FileValues, ConfigError> {
    let at = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        Source::File(path.clone(), before.matches('\n').count() + 1)
    };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        from: at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let from = at(key.span().start);
        let name = key.get_ref().as_ref();
        let Some(setting) = SETTINGS.iter().find(|it| it.name == name) else {
            return Err(ConfigError::Key { from, key: name.to_owned() });
        };
        values.insert(setting.name, (from, text_of(value.get_ref())));
    }
    Ok(values)
}

/// The value as a flag would give it; what no setting takes becomes its type's name.
fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => format!("({})", value.type_str()),
    }
}

fn check_variables<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), ConfigError> {
    for name in names {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
        let ours = name == ENV_CONFIG
            || name == ENV_SERVER
            || SETTINGS.iter().any(|setting| setting.variable() == *name);
        // Kubernetes sets these beside every service called `milepost`.
        let service_link =
            rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
        if !ours && !service_link {
            return Err(ConfigError::Variable { name: name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
