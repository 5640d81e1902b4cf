//! The arguments that people and `cargo xtask prove` give.

use anyhow::{Context, Result, bail, ensure};

/// What `leasehold-chaos` prints when it is asked for nothing it knows.
pub(super) const USAGE: &str = "\
usage: leasehold-chaos run     --endpoint URL [--seconds N] [--seed N]   (90 seconds, seed 1)
       leasehold-chaos lockset --endpoint URL [--seconds N]              (30 seconds)
       leasehold-chaos files   [--seconds N] [--comers N]                (60 seconds, 200)

URL is a DynamoDB Local, `http://127.0.0.1:8000`; `cargo xtask dynamodb` starts one. `run` also needs the
command `leasehold` beside this program: `cargo build -p leasehold-cli`.";

/// What a part takes, and what it does without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) seconds: u64,
    /// `None`: nothing of it is left to chance.
    pub(super) seed: Option<u64>,
}

/// Arguments of both parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Options {
    pub(super) endpoint: String,
    pub(super) seconds: u64,
    pub(super) seed: u64,
}

impl Options {
    /// Reads them.
    pub(super) fn parse(arguments: &[String], defaults: Defaults) -> Result<Options> {
        let mut endpoint = None;
        let mut options = Options {
            endpoint: String::new(),
            seconds: defaults.seconds,
            seed: defaults.seed.unwrap_or_default(),
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("`{name}` needs a value\n{USAGE}"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .with_context(|| format!("`{name} {value}`: not a number"))
            };
            match name.as_str() {
                "--endpoint" => endpoint = Some(value.clone()),
                "--seconds" => options.seconds = number()?,
                "--seed" if defaults.seed.is_some() => options.seed = number()?,
                _ => bail!("unknown argument `{name}`\n{USAGE}"),
            }
        }
        ensure!(options.seconds > 0, "`--seconds 0` would prove nothing");
        options.endpoint = endpoint.with_context(|| format!("`--endpoint` is missing\n{USAGE}"))?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let defaults = Defaults {
            seconds: 90,
            seed: Some(1),
        };
        Options::parse(&words, defaults)
    }

    #[test]
    fn arguments_in_any_order() {
        let options = parse(&["--seed", "7", "--endpoint", "http://x"]).expect("complete");
        assert_eq!(options.seed, 7);
        assert_eq!(options.seconds, 90);
        assert_eq!(options.endpoint, "http://x");
        for bad in [
            &["--seed", "7"][..],
            &["--endpoint"],
            &["--endpoint", "x", "--seconds", "0"],
            &["--endpoint", "x", "--seconds", "-1"],
            &["--endpoint", "x", "--fast", "1"],
        ] {
            parse(bad).expect_err("incomplete or unknown");
        }
    }
}
