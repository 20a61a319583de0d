//! Why a command failed, and the exit code that tells it.

use std::{fmt, process::ExitCode};

use crate::{
    config::ConfigError,
    grpc::client::{CallError, CallStatus, ConnectError},
};

/// What every command ends with.
pub(crate) type Done = Result<(), Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server ended a call with an error.
    Call(Box<CallError>),
    /// Not everything that was asked for happened; the command has told what.
    Incomplete,
    /// What is stored is damaged; the command has told what.
    Damaged,
    /// The arguments do not fit together.
    Usage(String),
    /// No server answers.
    Unreachable(String),
    /// A local file, the terminal, the system.
    Local(anyhow::Error),
    /// Nobody reads the output any more, as after `| head`.
    Closed,
    /// The configuration cannot be used.
    Config(ConfigError),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Closed => 0,
            Self::Call(error) if error.disconnected => 3,
            Self::Call(_) | Self::Incomplete => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Local(_) => 4,
            Self::Damaged => 5,
            Self::Config(_) => 78, // EX_CONFIG
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "{error}"),
            Self::Incomplete => f.write_str("incomplete"),
            Self::Damaged => f.write_str("what is stored is damaged"),
            Self::Usage(message) | Self::Unreachable(message) => f.write_str(message),
            Self::Local(error) => write!(f, "{error:#}"),
            Self::Closed => f.write_str("nobody reads the output"),
            Self::Config(error) => write!(f, "{error}"),
        }
    }
}

impl From<CallStatus> for Failure {
    fn from(status: CallStatus) -> Self {
        CallError::from(status).into()
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call(Box::new(error))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Address { .. } => Self::Usage(error.to_string()),
            ConnectError::Unreachable { .. } => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}
