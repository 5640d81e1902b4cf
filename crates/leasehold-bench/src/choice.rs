//! What the command line chooses: the size of the scenarios, the subjects, and copies of peers that the
//! registries do not have.

use std::path::{Path, PathBuf, absolute};

use anyhow::{Result, ensure};
use clap::builder::PossibleValuesParser;

use crate::who::Who;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Choice {
    /// Small scenarios
    #[arg(long)]
    pub(crate) quick: bool,
    /// These subjects alone; only the peers among them are installed
    #[arg(long, value_name = "WHO", value_delimiter = ',', value_parser = PossibleValuesParser::new(Who::ALL.map(Who::id)))]
    only: Vec<String>,
    /// A JAR of AWS's Java client, built by hand from its public source, instead of the registry's
    #[arg(long, value_name = "JAR")]
    pub(crate) java: Option<PathBuf>,
    /// A directory with dynamolock's module, from its public source, instead of the registry's
    #[arg(long, value_name = "DIR")]
    pub(crate) go_replace: Option<PathBuf>,
}

impl Choice {
    /// Whether `who` takes part.
    pub(crate) fn includes(&self, who: Who) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == who.id())
    }

    /// Makes the paths absolute: the peers are built in directories of their own.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let there = |option: &str, file: &Path| {
            ensure!(
                file.is_file(),
                "{option}: there is no file {}",
                file.display()
            );
            Ok(())
        };
        if let Some(jar) = &mut self.java {
            *jar = absolute(&jar)?;
            there("--java", jar)?;
        }
        if let Some(module) = &mut self.go_replace {
            *module = absolute(&module)?;
            there("--go-replace", &module.join("go.mod"))?;
        }
        Ok(())
    }

    /// What a reader of the figures has to know of it.
    pub(crate) fn note(&self) -> String {
        let mut note = String::new();
        for (who, copy) in [(Who::Java, &self.java), (Who::Go, &self.go_replace)] {
            if let Some(copy) = copy {
                note += &format!(" {}: a copy, {}.", who.label(), copy.display());
            }
        }
        if !self.only.is_empty() {
            note += &format!(" Only {}.", self.only.join(", "));
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        choice: Choice,
    }

    fn parse(words: &[&str]) -> Result<Choice> {
        let words = ["bench"].iter().chain(words);
        Ok(Cli::try_parse_from(words).context("refused")?.choice)
    }

    #[test]
    fn subjects_are_named_one_by_one_or_with_commas() {
        let choice = parse(&["--only", "java,fsharp", "--only=go"]).expect("sound");
        let included = Who::ALL.into_iter().filter(|who| choice.includes(*who));
        assert_eq!(
            included.collect::<Vec<_>>(),
            [Who::FSharp, Who::Java, Who::Go]
        );
        assert!(choice.note().contains("Only java, fsharp, go."));
        let all = parse(&[]).expect("sound");
        assert!(Who::ALL.into_iter().all(|who| all.includes(who)));
        assert_eq!(all.note(), "");
        parse(&["--only", "nobody"]).expect_err("nobody is called nobody");
    }

    #[test]
    fn a_copy_that_is_not_there_is_refused_before_anything_runs() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().to_str().expect("UTF-8");
        let mut missing = parse(&["--go-replace", path]).expect("sound");
        let error = missing.settle().expect_err("an empty directory");
        assert!(error.to_string().contains("go.mod"), "{error}");
        let mut missing = parse(&["--java", path]).expect("sound");
        missing.settle().expect_err("a directory is no JAR");

        std::fs::write(scratch.path().join("go.mod"), "module x").expect("written");
        let mut there = parse(&["--go-replace", path]).expect("sound");
        there.settle().expect("it is there");
        assert!(there.note().contains(path), "{}", there.note());
    }
}
