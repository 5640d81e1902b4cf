//! What a user's crate makes of the packages: outside of the workspace, with the dependency lines of README, and under
//! clippy with warnings denied. Doctests hide warnings, and have the project's own dependencies.
//!
//! - All examples of the documents and of rustdoc build, and README's first program runs on DynamoDB Local.
//! - The packaged library builds with each feature alone.
//! - The packaged command is clean with the embedded store only; `lint` has it with DynamoDB.
//!
//! The crates lie under cargo's target directory and keep their build there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::examples::{self, blocks, read};
use crate::cargo::{guarded_cargo, judge};
use crate::guard::{self, run};
use crate::{dynamodb, paths};

/// In the order of their dependencies.
pub(super) const PUBLISHED: [&str; 3] = ["leasehold-protocol", "leasehold", "leasehold-cli"];

/// What README writes for the path of the library.
const WRITTEN_PATH: &str = "../leasehold/crates/leasehold";

/// The features of the library; "" is none.
const FEATURES: [&str; 7] = [
    "",
    "blocking",
    "dynamodb",
    "sqlite",
    "metrics",
    "serde",
    "test-util",
];

/// The whole check.
pub(super) fn check() -> Result<()> {
    let home = paths::target().join("package-users");
    unpack(&home)?;

    eprintln!("== package: the examples in a user's crate, under clippy");
    let user = users_crate(&home)?;
    for name in ["all", "first"] {
        let status = run(&mut build_example(&user, name)?)?;
        judge("package: the examples", status)?;
    }
    let log = home.join("unclean.log");
    let mut unclean = build_example(&user, "unclean")?;
    let status = run(unclean.stderr(File::create(&log)?))?;
    let lints = read(&log)?;
    ensure!(
        !status.success() && lints.contains("clippy::let_unit_value"),
        "clippy saw nothing in an unclean example: {lints}"
    );
    // No second HTTP and TLS stack, as the project forbids itself.
    let lock = read(&user.join("Cargo.lock"))?;
    for (name, version) in [("hyper", "0.14"), ("rustls", "0.21")] {
        let line = format!("name = \"{name}\"\nversion = \"{version}.");
        ensure!(!lock.contains(&line), "{name} {version} is built");
    }

    for feature in FEATURES {
        eprintln!("== package: leasehold with the feature `{feature}` alone");
        let status = run(cargo(&crate_with(&home, feature)?)?.arg("check"))?;
        judge(feature, status)?;
    }

    eprintln!("== package: the command with the embedded store alone");
    let clippy = [
        "clippy",
        "--package",
        "leasehold-cli",
        "--no-default-features",
        "--",
        "-Dwarnings",
    ];
    let status = run(cargo(&command(&home)?)?.args(clippy))?;
    judge("package: the command", status)?;

    eprintln!("== package: README's first program, on DynamoDB Local");
    first_program(&home)
}

/// The directory of an unpacked package.
fn unpacked(name: &str) -> String {
    format!("{name}-{}", env!("CARGO_PKG_VERSION"))
}

fn library(home: &Path) -> PathBuf {
    home.join("packages").join(unpacked("leasehold"))
}

fn protocol(home: &Path) -> PathBuf {
    home.join("packages").join(unpacked("leasehold-protocol"))
}

/// Makes the packages as they would be published, and unpacks them: the command's in a workspace of its own.
fn unpack(home: &Path) -> Result<()> {
    let packed = home.join("packed");
    let mut package = guarded_cargo()?;
    package.args(["package", "--no-verify", "--allow-dirty", "--quiet"]);
    package.args(PUBLISHED.map(|name| format!("-p{name}")));
    package.env_remove("CARGO_TARGET_DIR");
    judge(
        "cargo package",
        run(package.arg("--target-dir").arg(&packed))?,
    )?;
    for package in PUBLISHED {
        let name = unpacked(package);
        let folder = home.join(match package {
            "leasehold-cli" => "command",
            _ => "packages",
        });
        // Files of an earlier package would stay.
        let _none = fs::remove_dir_all(folder.join(&name));
        fs::create_dir_all(&folder)?;
        let mut tar = guard::command("tar")?;
        tar.arg("-xzf")
            .arg(packed.join(format!("package/{name}.crate")));
        judge("tar", run(tar.arg("-C").arg(&folder))?)?;
    }
    Ok(())
}

/// README's own dependency lines, with the unpacked package: those for SQLite alone, and those for DynamoDB.
fn dependencies(library: &Path) -> Result<[String; 2]> {
    let real = library.display().to_string();
    let readme = read(&paths::workspace().join("README.md"))?;
    let mut tomls = Vec::new();
    for (info, lines) in blocks(&readme)? {
        if info == "toml" {
            let lines = lines.join("\n").replace(WRITTEN_PATH, &real);
            ensure!(lines.starts_with("[dependencies]\n") && lines.contains(&real));
            tomls.push(lines);
        }
    }
    let count = tomls.len();
    <[String; 2]>::try_from(tomls)
        .ok()
        .with_context(|| format!("README has {count} blocks of toml, and not 2"))
}

fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().context("a file in no folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a crate without members: its manifest's lines of dependencies, and an empty library.
fn write_crate(home: &Path, folder: &str, dependencies: &str) -> Result<PathBuf> {
    let crate_home = home.join(folder);
    let manifest = format!(
        "[package]\nname = \"{folder}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n{dependencies}\n\n\
         [patch.crates-io]\nleasehold-protocol = {{ path = \"{}\" }}\n\n[profile.dev]\ndebug = 0\n",
        protocol(home).display()
    );
    write_if_new(&crate_home.join("Cargo.toml"), &manifest)?;
    write_if_new(&crate_home.join("src/lib.rs"), "")?;
    lock_as_the_project(&crate_home)?;
    Ok(crate_home)
}

/// Writes the crate of a user, with all examples.
fn users_crate(home: &Path) -> Result<PathBuf> {
    let [sqlite, dynamodb] = dependencies(&library(home))?;
    let of_sqlite = sqlite.lines().find(|line| line.starts_with("leasehold"));
    let of_sqlite = of_sqlite.context("README has no line for SQLite")?;
    // For one example, which is for authors of stores.
    let of_sqlite = of_sqlite.replace("\"sqlite\"", "\"sqlite\", \"blocking\", \"test-util\"");
    let dependencies = format!(
        "{dynamodb}\n\n[dev-dependencies]\n{of_sqlite}\ntokio = {{ version = \"1\", features = [\"test-util\"] }}"
    );
    let user = write_crate(home, "users-crate", &dependencies)?;
    // The project's own is for the project.
    write_if_new(&user.join("clippy.toml"), "")?;
    let examples = examples::all(&paths::workspace())?;
    ensure!(examples.len() >= 15, "{:?}", examples.keys());
    // Modules of one program: each by itself would be linked with the AWS SDK.
    let mut all = String::new();
    for (name, text) in &examples {
        write_if_new(&user.join(format!("parts/{name}.rs")), text)?;
        all.push_str(&format!("#[path = \"../parts/{name}.rs\"]\nmod {name};\n"));
    }
    let all = format!("{all}\nfn main() {{}}\n");
    write_if_new(&user.join("examples/all.rs"), &all)?;
    let first = examples
        .iter()
        .find(|(name, text)| name.starts_with("readme") && text.contains("aws_config::"));
    let (_, first) = first.context("README does not show how the client of AWS is made")?;
    write_if_new(&user.join("examples/first.rs"), first)?;
    let unclean = "fn main() {\n    let _unit = println!();\n}\n";
    write_if_new(&user.join("examples/unclean.rs"), unclean)?;
    Ok(user)
}

/// A crate that uses the packaged library with one feature alone.
fn crate_with(home: &Path, feature: &str) -> Result<PathBuf> {
    let features: Vec<_> = Some(feature)
        .filter(|name| !name.is_empty())
        .into_iter()
        .collect();
    let library = library(home).display().to_string();
    let dependency =
        format!("[dependencies]\nleasehold = {{ path = \"{library}\", features = {features:?} }}");
    write_crate(home, "one-feature", &dependency)
}

/// A workspace whose only member is the packaged command.
fn command(home: &Path) -> Result<PathBuf> {
    let command = home.join("command");
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\"{}\"]\n\n[patch.crates-io]\n\
         leasehold = {{ path = \"{}\" }}\nleasehold-protocol = {{ path = \"{}\" }}\n\n[profile.dev]\ndebug = 0\n",
        unpacked("leasehold-cli"),
        library(home).display(),
        protocol(home).display(),
    );
    write_if_new(&command.join("Cargo.toml"), &manifest)?;
    lock_as_the_project(&command)?;
    Ok(command)
}

/// The versions that the project is built with; cargo takes out what is not needed.
fn lock_as_the_project(home: &Path) -> Result<()> {
    let lock = home.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(paths::workspace().join("Cargo.lock"), &lock)?;
    }
    Ok(())
}

/// cargo in a crate beside the workspace.
fn cargo(crate_home: &Path) -> Result<Command> {
    let mut command = guarded_cargo()?;
    command.current_dir(crate_home).env_remove("RUSTFLAGS");
    // One for all, since they share dependencies.
    command.env("CARGO_TARGET_DIR", crate_home.with_file_name("target"));
    Ok(command)
}

/// Builds an example under clippy. `cargo clippy` would only check it, and the program that runs would be built once more.
fn build_example(user: &Path, name: &str) -> Result<Command> {
    let mut command = cargo(user)?;
    command.args(["build", "--example", name]);
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    command.env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    Ok(command)
}

fn first_program(home: &Path) -> Result<()> {
    let server = dynamodb::start(None)?;
    let log = home.join("first.log");
    let mut first = guard::command(home.join("target/debug/examples/first"))?;
    first
        .env("AWS_ENDPOINT_URL_DYNAMODB", &server.url)
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test");
    judge(
        "README's first program",
        run(first.stdout(File::create(&log)?))?,
    )?;
    let printed = read(&log)?;
    for customer in ["customer/42", "customer/43"] {
        ensure!(
            printed.contains(&format!("importing {customer} with token")),
            "README's first program has not imported {customer}: {printed}"
        );
    }
    Ok(())
}
