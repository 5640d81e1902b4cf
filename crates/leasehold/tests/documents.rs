//! The examples of the documents and of rustdoc, as a user's crate compiles them: outside of the workspace, with the
//! dependencies that README names, under clippy with warnings denied. Doctests hide warnings, and have the project's own
//! dependencies.
//!
//! The packages are built as well: the library with each feature alone, and the command with the embedded store.
//!
//! The crates lie under cargo's target directory and keep their build there: the first run builds the AWS SDK (to run the
//! first program), later ones only what has changed.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What README writes for the path of the library.
const WRITTEN_PATH: &str = "../leasehold/crates/leasehold";

fn library() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    library().join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a text: what is written behind the fence, and the lines.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.trim().to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed: {open:?}");
    blocks
}

/// The documentation comments of a source file, each as one text.
fn doc_comments(source: &str) -> Vec<String> {
    let mut texts = vec![String::new()];
    for line in source.lines() {
        let line = line.trim_start();
        let doc = line
            .strip_prefix("//!")
            .or_else(|| line.strip_prefix("///"));
        match doc {
            Some(doc) => {
                let text = texts.last_mut().expect("never empty");
                text.push_str(doc.strip_prefix(' ').unwrap_or(doc));
                text.push('\n');
            }
            None => texts.push(String::new()),
        }
    }
    texts
}

/// A whole program, as rustdoc makes one of an example. Only what an example cannot help is allowed: wrappers that nobody calls, and
/// values that it makes to show how.
fn program(lines: &[String]) -> String {
    let shown: Vec<_> = lines
        .iter()
        .map(|line| match line.trim_start() {
            "#" => "",
            hidden => hidden.strip_prefix("# ").unwrap_or(line),
        })
        .collect();
    let code = shown.join("\n");
    let head = "#![allow(dead_code, unused_variables)]\n";
    if code.contains("fn main(") {
        format!("{head}{code}\n")
    } else {
        format!("{head}fn main() {{\n{code}\n}}\n")
    }
}

/// All examples that are to compile, by name.
fn examples() -> BTreeMap<String, String> {
    let mut examples = BTreeMap::new();
    let mut add = |name: &str, text: &str, is_rust: fn(&str) -> bool| {
        for (info, lines) in blocks(text) {
            let skipped = ["ignore", "compile_fail"];
            if is_rust(&info) && !skipped.iter().any(|word| info.contains(word)) {
                let n = examples
                    .range(format!("{name}_")..format!("{name}_a"))
                    .count();
                examples.insert(format!("{name}_{n}"), program(&lines));
            }
        }
    };
    let mut documents = vec![root().join("README.md")];
    documents.extend(files(&root().join("docs"), "md"));
    for path in documents {
        let name = path.file_stem().expect("a name").to_string_lossy();
        add(&name.to_lowercase(), &read(&path), |info| {
            info.starts_with("rust")
        });
    }
    for path in files(&library().join("src"), "rs") {
        let stem = path.strip_prefix(library().join("src")).expect("below it");
        let name = stem.with_extension("").display().to_string();
        for text in doc_comments(&read(&path)) {
            // In rustdoc a block without a word is Rust, too.
            add(&name.replace('/', "_"), &text, |info| {
                info.is_empty() || info.starts_with("rust") || info.starts_with("no_run")
            });
        }
    }
    examples
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|end| end == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The published packages.
const PACKAGES: [&str; 3] = ["leasehold", "leasehold-protocol", "leasehold-cli"];

/// The directory of an unpacked package.
fn unpacked(name: &str) -> String {
    format!("{name}-{}", env!("CARGO_PKG_VERSION"))
}

/// Makes the packages as they would be published, and unpacks them: the command's in a workspace of its own.
fn packages(home: &Path) {
    fs::create_dir_all(home).expect("a folder");
    let packed = home.join("packed");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let command = command.args(["package", "--no-verify", "--allow-dirty", "--quiet"]);
    let command = command.args(PACKAGES.map(|name| format!("-p{name}")));
    let command = command.arg("--target-dir").arg(&packed).current_dir(root());
    let output = command.env_remove("CARGO_TARGET_DIR").output();
    succeeded("cargo package", &output.expect("cargo runs"));
    for package in PACKAGES {
        let name = unpacked(package);
        let home = match package {
            "leasehold-cli" => home.with_file_name("command"),
            _ => home.to_owned(),
        };
        fs::create_dir_all(&home).expect("a folder");
        let archive = packed.join(format!("package/{name}.crate"));
        // Files of an earlier package would stay.
        let _none = fs::remove_dir_all(home.join(&name));
        let mut tar = Command::new("tar");
        let tar = tar.arg("-xzf").arg(&archive).arg("-C").arg(&home);
        succeeded("tar", &tar.output().expect("tar runs"));
    }
}

/// README's own dependency lines, with the unpacked package: those for DynamoDB, and those for SQLite alone.
fn dependencies(library: &Path) -> (String, String) {
    let real = library.display().to_string();
    let readme = read(&root().join("README.md"));
    let tomls: Vec<_> = blocks(&readme)
        .into_iter()
        .filter(|(info, _)| info == "toml")
        .map(|(_, lines)| lines.join("\n").replace(WRITTEN_PATH, &real))
        .collect();
    let [sqlite, dynamodb] = tomls.try_into().expect("README has two blocks of toml");
    for lines in [&dynamodb, &sqlite] {
        assert!(lines.starts_with("[dependencies]\n") && lines.contains(&real));
    }
    (dynamodb, sqlite)
}

fn write_if_new(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("written");
}

/// Writes the crate of a user.
fn users_crate() -> PathBuf {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("users-crate");
    fs::create_dir_all(&home).expect("a folder");
    // Beside it: what lies in it would be a member of its workspace.
    let packages_home = home.with_file_name("packages");
    packages(&packages_home);
    let (dynamodb, sqlite) = dependencies(&packages_home.join(unpacked("leasehold")));
    let of_sqlite = sqlite.lines().find(|line| line.starts_with("leasehold"));
    let manifest = format!(
        "[package]\nname = \"users-crate\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n{dynamodb}\n\n\
         [dev-dependencies]\n{}\ntokio = {{ version = \"1\", features = [\"test-util\"] }}\n\n\
         [patch.crates-io]\nleasehold-protocol = {{ path = \"{}\" }}\n\n[profile.dev]\ndebug = 0\n",
        of_sqlite
            .expect("a line for SQLite")
            // For one example, which is for authors of stores.
            .replace("\"sqlite\"", "\"sqlite\", \"blocking\", \"test-util\""),
        packages_home.join(unpacked("leasehold-protocol")).display()
    );
    write_if_new(&home.join("Cargo.toml"), &manifest);
    write_if_new(&home.join("src/lib.rs"), "");
    // The project's own is for the project.
    write_if_new(&home.join("clippy.toml"), "");
    lock_as_the_project(&home);
    let examples = examples();
    assert!(examples.len() >= 15, "{:?}", examples.keys());
    // Modules of one program: each by itself would be linked with the AWS SDK.
    let mut all = String::new();
    for (name, text) in &examples {
        write_if_new(&home.join(format!("parts/{name}.rs")), text);
        all.push_str(&format!("#[path = \"../parts/{name}.rs\"]\nmod {name};\n"));
    }
    write_if_new(
        &home.join("examples/all.rs"),
        &format!("{all}\nfn main() {{}}\n"),
    );
    let first = examples
        .iter()
        .find(|(name, text)| name.starts_with("readme") && text.contains("aws_config::"));
    let (_, first) = first.expect("README shows how the client of AWS is made");
    write_if_new(&home.join("examples/first.rs"), first);
    write_if_new(
        &home.join("examples/unclean.rs"),
        "fn main() {\n    let _unit = println!();\n}\n",
    );
    home
}

/// A crate that uses the packaged library with one feature alone.
fn crate_with(users_crate: &Path, feature: &str) -> PathBuf {
    let packages = users_crate.with_file_name("packages");
    let package = |name| packages.join(unpacked(name)).display().to_string();
    let home = users_crate.with_file_name("one-feature");
    let manifest = format!(
        "[package]\nname = \"one-feature\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         leasehold = {{ path = \"{}\", features = [{feature}] }}\n\n\
         [patch.crates-io]\nleasehold-protocol = {{ path = \"{}\" }}\n\n[profile.dev]\ndebug = 0\n",
        package("leasehold"),
        package("leasehold-protocol")
    );
    write_if_new(&home.join("Cargo.toml"), &manifest);
    write_if_new(&home.join("src/lib.rs"), "");
    lock_as_the_project(&home);
    home
}

/// A workspace whose only member is the packaged command.
fn command(users_crate: &Path) -> PathBuf {
    let home = users_crate.with_file_name("command");
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\"{}\"]\n\n[patch.crates-io]\n\
         leasehold = {{ path = \"../packages/{}\" }}\nleasehold-protocol = {{ path = \"../packages/{}\" }}\n\n\
         [profile.dev]\ndebug = 0\n",
        unpacked("leasehold-cli"),
        unpacked("leasehold"),
        unpacked("leasehold-protocol"),
    );
    write_if_new(&home.join("Cargo.toml"), &manifest);
    lock_as_the_project(&home);
    home
}

/// The versions that the project is built with; cargo takes out what is not needed.
fn lock_as_the_project(home: &Path) {
    let lock = home.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(root().join("Cargo.lock"), &lock).expect("the project's lock file");
    }
}

/// Runs cargo there: offline if what is needed has been fetched, as after any build of the project.
fn cargo(home: &Path, args: &[&str], envs: &[(&str, &str)]) -> Output {
    let run = |offline: Option<&str>| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        let (verb, rest) = args.split_first().expect("a verb");
        command.arg(verb).args(offline).args(rest);
        // The variables of the test's own build would go on to this one.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
            if name != "CARGO_HOME" {
                command.env_remove(name);
            }
        }
        let command = command.current_dir(home).env_remove("RUSTFLAGS");
        // One for all, since they share dependencies.
        let command = command.env("CARGO_TARGET_DIR", home.with_file_name("users-target"));
        command
            .envs(envs.iter().copied())
            .output()
            .expect("cargo runs")
    };
    let output = run(Some("--offline"));
    let missing = String::from_utf8_lossy(&output.stderr).contains("--offline");
    if !output.status.success() && missing {
        return run(None);
    }
    output
}

fn succeeded(what: &str, output: &Output) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{what}: {}\n{out}\n{err}",
        output.status
    );
}

#[test]
fn f2_f6_the_examples_are_clean_in_a_users_crate_and_the_first_program_runs() {
    let home = users_crate();
    // `cargo clippy` would only check them, and the first program would build the AWS SDK once more.
    let clippy = [
        ("RUSTC_WORKSPACE_WRAPPER", "clippy-driver"),
        ("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__"),
    ];
    let build = |name| cargo(&home, &["build", "--example", name], &clippy);
    for name in ["all", "first"] {
        succeeded("clippy on the examples", &build(name));
    }
    let refused = build("unclean");
    assert!(!refused.status.success(), "no clippy has seen it");
    let lints = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(lints.contains("clippy::let_unit_value"), "{lints}");

    for feature in [
        "",
        "\"blocking\"",
        "\"dynamodb\"",
        "\"sqlite\"",
        "\"metrics\"",
        "\"serde\"",
        "\"test-util\"",
    ] {
        let alone = crate_with(&home, feature);
        succeeded(feature, &cargo(&alone, &["check"], &[]));
    }
    // With DynamoDB it is linted in the workspace.
    let check = [
        "clippy",
        "--package",
        "leasehold-cli",
        "--no-default-features",
        "--",
        "-Dwarnings",
    ];
    succeeded("the command", &cargo(&command(&home), &check, &[]));

    // No second HTTP and TLS stack, as the project forbids itself.
    let lock = read(&home.join("Cargo.lock"));
    for (name, version) in [("hyper", "0.14"), ("rustls", "0.21")] {
        let line = format!("name = \"{name}\"\nversion = \"{version}.");
        assert!(!lock.contains(&line), "{name} {version} is built");
    }

    // README's first program, against DynamoDB Local.
    let mut first = Command::new(home.with_file_name("users-target/debug/examples/first"));
    let first = first
        .env("AWS_ENDPOINT_URL_DYNAMODB", support::endpoint())
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test");
    let run = first.output().expect("it was built");
    succeeded("README's first program", &run);
    let printed = String::from_utf8_lossy(&run.stdout);
    for customer in ["customer/42", "customer/43"] {
        assert!(
            printed.contains(&format!("importing {customer} with token")),
            "{printed}"
        );
    }
}
