//! The commands, and how each is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::server::{self, Server};
use crate::scenario::ms;
use crate::stopwatch::within;
use crate::{dynamodb, place};

/// The commands, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flock,
    Consul,
    Etcdctl,
    Sqlite,
    DynamoDb,
}

pub(super) const KINDS: [Kind; 5] = [
    Kind::Flock,
    Kind::Consul,
    Kind::Etcdctl,
    Kind::Sqlite,
    Kind::DynamoDb,
];

impl Kind {
    pub(super) fn label(self) -> &'static str {
        match self {
            Kind::Flock => "flock",
            Kind::Consul => "consul lock",
            Kind::Etcdctl => "etcdctl lock",
            Kind::Sqlite => "leasehold, SQLite",
            Kind::DynamoDb => "leasehold, DynamoDB",
        }
    }

    /// Programs that it needs.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Flock => &["flock"],
            Kind::Consul => &["consul"],
            Kind::Etcdctl => &["etcdctl", "etcd"],
            Kind::Sqlite | Kind::DynamoDb => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Flock => "flock",
            Kind::Consul => "consul",
            Kind::Etcdctl => "etcdctl",
            Kind::Sqlite => "sqlite",
            Kind::DynamoDb => "dynamodb",
        }
    }

    /// Options for a held lock: not to wait; to wait for a second.
    pub(super) fn nonblock(self) -> Option<&'static [&'static str]> {
        match self {
            Kind::Flock | Kind::Sqlite | Kind::DynamoDb => Some(&["-n"]),
            Kind::Consul | Kind::Etcdctl => None,
        }
    }

    pub(super) fn wait_1s(self) -> Option<&'static [&'static str]> {
        match self {
            Kind::Flock => Some(&["-w", "1"]),
            Kind::Sqlite | Kind::DynamoDb => Some(&["-w", "1s"]),
            Kind::Consul => Some(&["-timeout=1s"]),
            Kind::Etcdctl => None,
        }
    }

    /// The option that passes the command's exit code on, where that is not the default.
    pub(super) fn exit_option(self) -> Option<&'static str> {
        (self == Kind::Consul).then_some("-child-exit-code")
    }

    /// The option that passes standard input on, where that is not the default.
    pub(super) fn stdin_option(self) -> Option<&'static str> {
        (self == Kind::Consul).then_some("-pass-stdin")
    }
}

/// A command that is installed, with its server.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) scratch: PathBuf,
    leasehold: PathBuf,
    /// `HOST:PORT` of its server; none for files.
    pub(super) address: Option<String>,
    table: String,
    _server: Option<Server>,
}

impl Tool {
    /// The command with its server, or why there is none.
    pub(super) async fn start(kind: Kind, scratch: &Path) -> Result<Result<Tool, String>> {
        for program in kind.programs() {
            if !installed(program) {
                return Ok(Err(format!("not installed: no `{program}` in PATH")));
            }
        }
        let server = match kind {
            Kind::Etcdctl => Some(server::etcd(scratch).await?),
            Kind::Consul => Some(server::consul().await?),
            Kind::Flock | Kind::Sqlite | Kind::DynamoDb => None,
        };
        let address = match (kind, &server) {
            (Kind::DynamoDb, _) => {
                let url = place::endpoint()?;
                Some(
                    url.trim_start_matches("http://")
                        .trim_end_matches('/')
                        .to_owned(),
                )
            }
            (_, server) => server.as_ref().map(|server| server.address.clone()),
        };
        let mut tool = Tool {
            kind,
            version: String::new(),
            scratch: scratch.to_owned(),
            leasehold: place::command()?,
            address,
            table: dynamodb::table_name("commands"),
            _server: server,
        };
        tool.version = tool.ask_version().await?;
        if kind == Kind::DynamoDb {
            tool.output(tool.ours("init", None)).await?;
        }
        Ok(Ok(tool))
    }

    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Its program with options before the name of the lock, and the command under the lock. `via` is the address of
    /// its server, instead of the real one. A session of its own: signals reach it alone, and no terminal is there.
    pub(super) fn lock(
        &self,
        options: &[&str],
        via: Option<&str>,
        key: &str,
        child: &[OsString],
    ) -> Command {
        let mut command = Command::new("setsid");
        command.args(self.words(options, via, key)).args(child);
        self.environment(&mut command);
        command
    }

    /// The same in the session of this program.
    pub(super) fn plain(&self, key: &str, child: &[OsString]) -> Command {
        let words = self.words(&[], None, key);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(child);
        self.environment(&mut command);
        command
    }

    /// Its words up to the command under the lock.
    pub(super) fn words(&self, options: &[&str], via: Option<&str>, key: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let address = via.or(self.address.as_deref()).unwrap_or_default();
        let options = options.iter().map(OsString::from);
        match self.kind {
            Kind::Flock => {
                words.push("flock".into());
                words.extend(options);
                words.push(self.scratch.join(format!("{key}.lock")).into());
            }
            Kind::Consul => {
                words.extend(["consul".into(), "lock".into()]);
                words.push(format!("-http-addr={address}").into());
                words.extend(options);
                words.push(key.into());
            }
            Kind::Etcdctl => {
                words.push("etcdctl".into());
                words.push(format!("--endpoints={address}").into());
                words.push("lock".into());
                words.extend(options);
                words.push(key.into());
            }
            Kind::Sqlite | Kind::DynamoDb => {
                words.extend([self.leasehold.clone().into(), "run".into()]);
                words.extend(["--store".into(), self.store(via)]);
                words.extend(options);
                words.extend([key.into(), "--".into()]);
            }
        }
        words
    }

    fn environment(&self, command: &mut Command) {
        command.env("ETCDCTL_API", "3");
        if self.kind == Kind::DynamoDb {
            command
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test");
        }
    }

    fn store(&self, via: Option<&str>) -> OsString {
        if self.kind == Kind::Sqlite {
            let mut store = OsString::from("sqlite:");
            store.push(self.scratch.join("locks.db"));
            return store;
        }
        let address = via.or(self.address.as_deref()).unwrap_or_default();
        format!(
            "dynamodb://{}?region=local&endpoint=http://{address}",
            self.table
        )
        .into()
    }

    fn ours(&self, verb: &str, key: Option<&str>) -> Command {
        let mut command = Command::new(&self.leasehold);
        command
            .arg(verb)
            .arg("--store")
            .arg(self.store(None))
            .args(key);
        self.environment(&mut command);
        command
    }

    fn etcdctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        let address = self.address.as_deref().unwrap_or_default();
        command.arg(format!("--endpoints={address}")).args(words);
        self.environment(&mut command);
        command
    }

    /// Its grants on the server, as it names them: leases of etcd, sessions of Consul. None for files.
    pub(super) async fn grants(&self, key: &str) -> Result<Vec<String>> {
        let text = |value: &Value| value.to_string().trim_matches('"').to_owned();
        match self.kind {
            Kind::Flock => Ok(Vec::new()),
            Kind::Consul => {
                let address = self.address.as_deref().unwrap_or_default();
                let list = server::request(address, "GET", "/v1/session/list").await?;
                let list: Vec<Value> = serde_json::from_str(&list)?;
                Ok(list.iter().map(|session| text(&session["ID"])).collect())
            }
            Kind::Etcdctl => {
                let list = self.output(self.etcdctl(&["lease", "list"])).await?;
                // After a line that says how many there are.
                Ok(list.lines().skip(1).map(str::to_owned).collect())
            }
            Kind::Sqlite | Kind::DynamoDb => {
                let mut show = self.ours("show", Some(key));
                show.arg("--json");
                let shown: Value = serde_json::from_str(&self.output(show).await?)?;
                ensure!(
                    shown["token"].is_u64() || shown["state"] != "held",
                    "{shown}"
                );
                Ok(shown["token"]
                    .is_u64()
                    .then(|| text(&shown["token"]))
                    .into_iter()
                    .collect())
            }
        }
    }

    /// Ends a grant on the server, as an operator would. Its holder gets no message.
    pub(super) async fn revoke(&self, key: &str, grant: &str) -> Result<()> {
        match self.kind {
            Kind::Flock => bail!("a kernel lock cannot be revoked"),
            Kind::Consul => {
                let address = self.address.as_deref().unwrap_or_default();
                let path = format!("/v1/session/destroy/{grant}");
                server::request(address, "PUT", &path).await?;
            }
            Kind::Etcdctl => {
                self.output(self.etcdctl(&["lease", "revoke", grant]))
                    .await?;
            }
            Kind::Sqlite | Kind::DynamoDb => {
                let mut force = self.ours("force-release", Some(key));
                force.args(["--token", grant, "--reason", "bench"]);
                self.output(force).await?;
            }
        }
        Ok(())
    }

    async fn ask_version(&self) -> Result<String> {
        let mut command = match self.kind {
            Kind::Flock => Command::new("flock"),
            Kind::Consul => Command::new("consul"),
            Kind::Etcdctl => Command::new("etcdctl"),
            Kind::Sqlite | Kind::DynamoDb => Command::new(&self.leasehold),
        };
        self.environment(&mut command);
        command.arg(match self.kind {
            Kind::Consul | Kind::Etcdctl => "version",
            Kind::Flock | Kind::Sqlite | Kind::DynamoDb => "--version",
        });
        let text = self.output(command).await?;
        let mut version = text
            .lines()
            .next()
            .unwrap_or_default()
            .replace("version: ", "");
        if let (Kind::Etcdctl, Some(address)) = (self.kind, &self.address) {
            let server = server::request(address, "GET", "/version").await?;
            let server: Value = serde_json::from_str(&server)?;
            version += &format!(
                " with etcd {}",
                server["etcdserver"].as_str().unwrap_or("?")
            );
        }
        Ok(version)
    }

    /// The standard output of a program that succeeds soon.
    async fn output(&self, mut command: Command) -> Result<String> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let what = format!("{:?}", command.as_std());
        let output = within(ms(20_000), command.output())
            .await
            .with_context(|| what.clone())?;
        let output = output.with_context(|| format!("cannot start {what}"))?;
        ensure!(output.status.success(), "{what}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Removes what it has left on a server that is not its own.
    pub(super) async fn tidy(&self) -> Result<()> {
        if self.kind == Kind::DynamoDb {
            let client = dynamodb::client(&place::endpoint()?);
            dynamodb::delete(&client, &self.table).await?;
        }
        Ok(())
    }
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
