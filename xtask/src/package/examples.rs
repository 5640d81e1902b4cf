//! The examples of the documents and of rustdoc, as programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A fenced block: what is written behind the fence, and the lines.
pub(super) type Block = (String, Vec<String>);

pub(super) fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.trim().to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "a fence is not closed: {open:?}");
    Ok(blocks)
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

/// All examples that are to compile, by name: those of README, of `docs/` and of the library's rustdoc.
pub(super) fn all(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut examples = BTreeMap::new();
    let mut add = |name: &str, text: &str, is_rust: fn(&str) -> bool| -> Result<()> {
        for (info, lines) in blocks(text).with_context(|| name.to_owned())? {
            let skipped = ["ignore", "compile_fail"];
            if is_rust(&info) && !skipped.iter().any(|word| info.contains(word)) {
                let n = examples
                    .range(format!("{name}_")..format!("{name}_a"))
                    .count();
                examples.insert(format!("{name}_{n}"), program(&lines));
            }
        }
        Ok(())
    };
    let mut documents = vec![root.join("README.md")];
    documents.extend(files(&root.join("docs"), "md")?);
    for path in documents {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        add(&name.to_lowercase(), &read(&path)?, |info| {
            info.starts_with("rust")
        })?;
    }
    let sources = root.join("crates/leasehold/src");
    for path in files(&sources, "rs")? {
        let stem = path.strip_prefix(&sources)?;
        let name = stem.with_extension("").display().to_string();
        for text in doc_comments(&read(&path)?) {
            // In rustdoc a block without a word is Rust, too.
            add(&name.replace('/', "_"), &text, |info| {
                info.is_empty() || info.starts_with("rust") || info.starts_with("no_run")
            })?;
        }
    }
    Ok(examples)
}

fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if path.extension().is_some_and(|end| end == ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
