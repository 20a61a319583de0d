//! `milepost serve`.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::{
    cli::{
        failure::{Done, Failure},
        output::{Format, Output},
    },
    config::{ConfigError, ENV_CONFIG, Resolved, SETTINGS, Sources},
    server, telemetry,
};

/// The settings given as flags; built from the table of settings.
#[derive(Debug, Default)]
pub(crate) struct ServeArgs {
    file: Option<PathBuf>,
    check: bool,
    flags: BTreeMap<&'static str, String>,
}

pub(crate) fn run(args: &ServeArgs) -> Done {
    let resolved = resolve(args).map_err(Failure::Config)?;
    if args.check {
        let mut output = Output::new(Format::Text);
        output.raw(resolved.describe().as_bytes())?;
        return output.flush();
    }
    let config = &resolved.config;
    telemetry::start(&config.log, config.log_format)
        .map_err(|error| Failure::Local(anyhow::anyhow!("cannot start logging: {error}")))?;
    server::run(config).map_err(|error| Failure::Local(error.into()))
}

fn resolve(args: &ServeArgs) -> Result<Resolved, ConfigError> {
    // Variables that are not UTF-8 cannot be ours, except by a value no setting takes.
    let env: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        })
        .collect();
    let path = args.file.clone().or_else(|| env.get(ENV_CONFIG).map(PathBuf::from));
    let file = match path {
        Some(path) => {
            let text = fs::read_to_string(&path).map_err(|error| ConfigError::Unreadable {
                path: path.clone(),
                message: error.to_string(),
            })?;
            Some((path, text))
        }
        None => None,
    };
    Resolved::from_sources(&Sources { flags: args.flags.clone(), env, file })
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!(
                "Configuration file: TOML, keys as the flags with `_` [env: {ENV_CONFIG}]"
            ));
        let check = Arg::new("check-config")
            .long("check-config")
            .action(ArgAction::SetTrue)
            .help("Print every value in force with its source, and do not serve");
        let settings = SETTINGS.iter().map(|setting| {
            let help = format!(
                "{} [env: {}] [default: {}]",
                setting.help,
                setting.variable(),
                setting.default_text().trim_matches('"'),
            );
            Arg::new(setting.name)
                .long(setting.flag.trim_start_matches('-'))
                .value_name(setting.value_name)
                .help(help)
        });
        command
            .args(settings)
            .arg(file)
            .arg(check)
            .after_help("A flag beats its variable, which beats the file, which beats the default.")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = SETTINGS.iter().filter_map(|setting| {
            Some((setting.name, matches.get_one::<String>(setting.name)?.clone()))
        });
        Ok(Self {
            file: matches.get_one::<PathBuf>("config").cloned(),
            check: matches.get_flag("check-config"),
            flags: flags.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
