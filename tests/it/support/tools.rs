//! Clients that others wrote, installed once into `target/clients`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::root;

/// A tool, or why there is none.
pub(crate) type Tool = Result<PathBuf, String>;

/// One installation at a time: tests run beside each other.
static INSTALLING: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    INSTALLING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Python with what `tests/clients/requirements.txt` names.
pub(crate) fn python() -> Tool {
    let _guard = one_at_a_time();
    let venv = home("venv");
    let python = venv.join("bin/python");
    let requirements = root().join("tests/clients/requirements.txt");
    installed(&venv, &fs::read_to_string(&requirements).unwrap(), || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements))
    })?;
    Ok(python)
}

/// The `buf` command, which speaks gRPC by reflection.
pub(crate) fn buf() -> Tool {
    const PACKAGE: &str = "@bufbuild/buf@1.75.0";
    let _guard = one_at_a_time();
    let node = home("node");
    installed(&node, PACKAGE, || {
        fs::create_dir_all(&node).map_err(|error| error.to_string())?;
        // Without a manifest of its own npm would look for one further up.
        fs::write(node.join("package.json"), "{\"private\": true}\n")
            .map_err(|error| error.to_string())?;
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error", PACKAGE])
            .current_dir(&node))
    })?;
    Ok(node.join("node_modules/.bin/buf"))
}

/// The JSON Schema test suite: the folder that holds `tests` and `remotes`. The source package of Python's
/// `jsonschema` has it.
pub(crate) fn json_schema_suite() -> Tool {
    const PACKAGE: &str = "jsonschema==4.26.0";
    if let Some(named) = std::env::var_os("MILEPOST_JSON_SCHEMA_SUITE") {
        return Ok(PathBuf::from(named));
    }
    let _guard = one_at_a_time();
    let suite = home("json-schema-suite");
    installed(&suite, PACKAGE, || {
        fs::create_dir_all(&suite).map_err(|error| error.to_string())?;
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--no-binary", ":all:", "--dest"])
            .arg(&suite)
            .arg(PACKAGE))?;
        let packed = suite.join("jsonschema-4.26.0.tar.gz");
        run(Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(&suite))
    })?;
    Ok(suite.join("jsonschema-4.26.0/json"))
}

/// Where Cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn home(name: &str) -> PathBuf {
    target().join("clients").join(name)
}

/// Installs unless a stamp says that exactly this is installed.
fn installed(
    dir: &Path,
    what: &str,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let stamp = dir.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|it| it == what) {
        return Ok(());
    }
    install()?;
    fs::write(&stamp, what).map_err(|error| error.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} is not installed ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|it| !it.trim().is_empty()).unwrap_or_default();
    Err(format!("{name} could not install it ({}): {last}", output.status))
}
