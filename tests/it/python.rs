//! The official Python client, by reflection alone: our own client would share our own mistakes.

use std::process::Command;

use crate::support::{Server, root, skipped, tools, xdm};

/// Runs the script; it says itself what did not hold.
fn run(python: &std::path::Path, arguments: &[&std::ffi::OsStr]) {
    let mut command = Command::new(python);
    command.arg(root().join("tests/clients/scenario.py")).args(arguments);
    // Caches beside the sources would be files of the repository.
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}{complained}");
    assert!(output.status.success(), "scenario.py: {}", output.status);
}

#[test]
fn the_official_python_client_can_do_everything_and_loses_nothing() {
    let Some(xdm) = xdm() else {
        return skipped("the XDM test data is not there (MILEPOST_XDM or ../shared/xdm)");
    };
    let python = match tools::python() {
        Ok(python) => python,
        Err(reason) => return skipped(&reason),
    };
    let server = Server::start();
    let state = server.dir().path("state.json");
    let address = server.address().to_owned();
    run(
        &python,
        &[address.as_ref(), "--xdm".as_ref(), xdm.as_ref(), "--state".as_ref(), state.as_ref()],
    );
    let server = Server::start_on(server.kill());
    run(
        &python,
        &[
            server.address().as_ref(),
            "--resume-check".as_ref(),
            server.dir().path("state.json").as_ref(),
        ],
    );
}
