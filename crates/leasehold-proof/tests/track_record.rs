//! `track_record.tsv` and `docs/proof.md` name tests; each of them must exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands there as `file.rs::name`.
fn named(text: &str) -> Vec<(String, String)> {
    let words = text.split([' ', '\t', '\n', '`', ',', ';']);
    let names = words.filter_map(|word| word.split_once(".rs::"));
    names
        .map(|(file, test)| (format!("{file}.rs"), test.to_owned()))
        .collect()
}

fn has_test(file: &str, test: &str) -> bool {
    let crates = fs::read_dir(root().join("crates")).expect("the workspace");
    crates.flatten().any(|dir| {
        let text = fs::read_to_string(dir.path().join("tests").join(file));
        text.is_ok_and(|text| text.contains(&format!("fn {test}(")))
    })
}

#[test]
fn every_test_that_the_proof_names_exists() {
    let rows = fs::read_to_string(root().join("crates/leasehold-proof/track_record.tsv"));
    let rows = rows.expect("track_record.tsv");
    let text = fs::read_to_string(root().join("docs/proof.md")).expect("docs/proof.md");
    let named = named(&format!("{rows}\n{text}"));
    assert!(named.len() >= 21, "only {} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|(f, t)| !has_test(f, t)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    for number in 1..=21 {
        assert!(rows.contains(&format!("\n{number}\t")), "row {number}");
    }
}
