//! The official Python client, by reflection alone: our own client would share our own mistakes.

use std::{path::PathBuf, process::Command};

use crate::support::{Server, root, skipped, tools, xdm};

/// Runs a script; it says itself what did not hold.
fn run(python: &std::path::Path, script: &str, arguments: &[&std::ffi::OsStr]) {
    let mut command = Command::new(python);
    command.arg(root().join("tests/clients").join(script)).args(arguments);
    // Caches beside the sources would be files of the repository.
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}{complained}");
    assert!(output.status.success(), "{script}: {}", output.status);
}

/// Python with what the scripts import, and the XDM test data; or says that the test is skipped.
fn needs() -> Option<(PathBuf, PathBuf)> {
    let Some(xdm) = xdm() else {
        skipped("the XDM test data is not there (MILEPOST_XDM or ../shared/xdm)");
        return None;
    };
    match tools::python() {
        Ok(python) => Some((python, xdm)),
        Err(reason) => {
            skipped(&reason);
            None
        }
    }
}

#[test]
fn the_official_python_client_can_do_everything_and_loses_nothing() {
    let Some((python, xdm)) = needs() else { return };
    let server = Server::start();
    let state = server.dir().path("state.json");
    let address = server.address().to_owned();
    run(
        &python,
        "scenario.py",
        &[address.as_ref(), "--xdm".as_ref(), xdm.as_ref(), "--state".as_ref(), state.as_ref()],
    );
    let server = Server::start_on(server.kill());
    run(
        &python,
        "scenario.py",
        &[
            server.address().as_ref(),
            "--resume-check".as_ref(),
            server.dir().path("state.json").as_ref(),
        ],
    );
}

/// Another language's validator finds the same wrong at the same places, in events changed at random.
#[test]
fn pythons_validator_agrees() {
    let Some((python, xdm)) = needs() else { return };
    let server = Server::start();
    let count = std::env::var("MILEPOST_MUTATIONS").unwrap_or_else(|_unset| "300".to_owned());
    let address = server.address().to_owned();
    let arguments = [address.as_ref(), "--xdm".as_ref(), xdm.as_ref(), "--count".as_ref()];
    run(&python, "differential.py", &[&arguments[..], &[count.as_ref()]].concat());
}

/// Definitions over real XDM match and deliver, of made and of published events, what Python says they should.
#[test]
fn python_judges_event_definitions_the_same() {
    let Some((python, xdm)) = needs() else { return };
    let server = Server::start();
    let address = server.address().to_owned();
    run(&python, "definitions.py", &[address.as_ref(), "--xdm".as_ref(), xdm.as_ref()]);
}
