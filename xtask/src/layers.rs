//! Imports between the files of each crate: a part of `cargo xtask lint`.
//!
//! Reads the syntax tree of every file, follows each path through re-exports to the file that defines the item, and
//! fails on a circle. Test modules and macro arguments are not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// A path in the source, from the crate's root.
type Segments = Vec<String>;

/// The layers of the library, lowest first. A file imports from its own layer and from lower ones.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "values",
        &[
            "clock", "done", "error", "holder", "key", "lease_id", "meter", "metrics", "policy",
            "store", "text", "usage",
        ],
    ),
    ("runtime", &["runtime"]),
    ("lease", &["lease"]),
    ("queue", &["queue"]),
    ("shared", &["shared"]),
    ("renewal", &["renewal"]),
    ("acquire", &["acquire"]),
    ("client", &["blocking", "client", "inspect", "run"]),
];

#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What its names stand for: imports and re-exports.
    names: BTreeMap<String, Segments>,
    /// The paths that it imports, with the names resolved.
    uses: Vec<Segments>,
    /// The paths that it re-exports.
    exports: Vec<Segments>,
}

/// One crate: its modules by path, the root being the empty path.
struct Crate {
    directory: PathBuf,
    modules: BTreeMap<Segments, Module>,
}

/// Fails on a circle of imports, and on an import that points up.
pub(crate) fn check(workspace: &Path) -> Result<()> {
    let mut problems = String::new();
    for root in roots(workspace)? {
        let edges = Crate::read(&root)?.edges();
        for circle in circles(&edges) {
            writeln!(problems, "a circle of imports in {}:", root.display())?;
            for file in &circle {
                let to: Vec<_> = edges[file].intersection(&circle).map(|f| name(f)).collect();
                writeln!(problems, "  {} imports {}", name(file), to.join(", "))?;
            }
        }
        if root.ends_with("crates/leasehold/src/lib.rs") {
            upward(&edges, &mut problems)?;
        }
    }
    ensure!(problems.is_empty(), "imports do not point down\n{problems}");
    Ok(())
}

fn name(file: &Path) -> String {
    file.display().to_string()
}

/// The root file of every library and program of the workspace.
fn roots(workspace: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = vec![workspace.join("xtask")];
    for entry in fs::read_dir(workspace.join("crates"))? {
        packages.push(entry?.path());
    }
    let mut roots = Vec::new();
    for package in packages {
        let named = ["src/lib.rs", "src/main.rs"].map(|file| package.join(file));
        roots.extend(named.into_iter().filter(|file| file.is_file()));
    }
    roots.sort();
    Ok(roots)
}

impl Crate {
    fn read(root: &Path) -> Result<Crate> {
        let directory = root.parent().context("a root file without a directory")?;
        let mut found = Crate {
            directory: directory.to_owned(),
            modules: BTreeMap::new(),
        };
        found.file(root, Vec::new(), directory)?;
        Ok(found)
    }

    /// `children`: where the files of its `mod` lines are.
    fn file(&mut self, file: &Path, path: Segments, children: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        let tree: File = syn::parse_file(&text).with_context(|| format!("{}", file.display()))?;
        self.items(&tree.items, file, path, children)
    }

    fn items(&mut self, items: &[Item], file: &Path, path: Segments, dir: &Path) -> Result<()> {
        let kept: Vec<_> = items.iter().filter(|item| !is_test(item)).collect();
        let mut module = Module {
            file: file.strip_prefix(&self.directory).unwrap_or(file).into(),
            ..Module::default()
        };
        let mut inner = Vec::new();
        for item in &kept {
            match item {
                Item::Mod(item) => {
                    inner.push(item);
                    let child = [path.as_slice(), &[item.ident.to_string()]].concat();
                    module.names.insert(item.ident.to_string(), child);
                }
                Item::Use(item) => flatten(&item.tree, &mut Vec::new(), &mut |alias, target| {
                    module.names.insert(alias, target.to_vec());
                }),
                _ => {}
            }
        }
        let mut written = Written::default();
        kept.iter().for_each(|item| written.visit_item(item));
        module.uses = written.paths;
        module.exports = written.exports;
        for item in inner {
            let child = [path.as_slice(), &[item.ident.to_string()]].concat();
            self.module(item, file, child, dir)?;
        }
        self.modules.insert(path, module);
        Ok(())
    }

    fn module(&mut self, item: &ItemMod, file: &Path, path: Segments, dir: &Path) -> Result<()> {
        let name = item.ident.to_string();
        let beside = dir.join(&name);
        if let Some((_, items)) = &item.content {
            return self.items(items, file, path, &beside);
        }
        let flat = dir.join(format!("{name}.rs"));
        let nested = beside.join("mod.rs");
        let file = match named_path(item) {
            Some(named) => dir.join(named),
            None if flat.is_file() => flat,
            None => nested,
        };
        self.file(&file, path, &beside)
    }

    /// The module that defines what `path`, written in `from`, names. `None`: it is of another crate.
    fn defines(&self, from: &Segments, path: &[String], depth: u32) -> Option<&Segments> {
        let (first, rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from.split_last()?.1.to_vec(),
            _ => {
                let target = self.modules[from].names.get(first)?;
                // A child module stands for itself.
                if self.modules.contains_key(target) && target.starts_with(from) {
                    target.clone()
                } else {
                    let whole = [target.as_slice(), rest].concat();
                    return match depth {
                        0 => None,
                        _ => self.defines(from, &whole, depth - 1),
                    };
                }
            }
        };
        let mut rest = rest;
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                at.pop()?;
            } else {
                let child = [at.as_slice(), std::slice::from_ref(next)].concat();
                if self.modules.contains_key(&child) {
                    at = child;
                } else if depth > 0
                    && let Some(target) = self.modules[&at].names.get(next)
                {
                    // Imported there, or exported again: it is defined where that leads.
                    let whole = [target.as_slice(), after].concat();
                    return self
                        .defines(&at, &whole, depth - 1)
                        .or_else(|| self.modules.get_key_value(&at).map(|(path, _)| path));
                } else {
                    break;
                }
            }
            rest = after;
        }
        self.modules.get_key_value(&at).map(|(path, _)| path)
    }

    /// Which file imports from which.
    fn edges(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let mut edges: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let to = edges.entry(module.file.clone()).or_default();
            let below = |defined: &Segments| defined.starts_with(path);
            let uses = module.uses.iter().map(|used| (used, false));
            let exports = module.exports.iter().map(|used| (used, true));
            for (used, export) in uses.chain(exports) {
                if let Some(defined) = self.defines(path, used, 16)
                    && !(export && below(defined))
                {
                    let file = &self.modules[defined].file;
                    if *file != module.file {
                        to.insert(file.clone());
                    }
                }
            }
        }
        edges
    }
}

/// What stands in `#[path = "…"]`.
fn named_path(item: &ItemMod) -> Option<String> {
    item.attrs
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                syn::Expr::Lit(literal) => match &literal.lit {
                    syn::Lit::Str(text) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
}

fn is_test(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    let test = |attribute: &Attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => asks_for_test(list.tokens.clone()),
        _ => false,
    };
    attributes.iter().any(test)
}

/// `test`, or `all(test, …)`.
fn asks_for_test(condition: TokenStream) -> bool {
    let tokens: Vec<_> = condition.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(word)] => word == "test",
        [TokenTree::Ident(all), TokenTree::Group(group)] if all == "all" => {
            let first = group.stream().into_iter().next();
            matches!(first, Some(TokenTree::Ident(word)) if word == "test")
        }
        _ => false,
    }
}

/// Every name that a `use` brings, with the path that it stands for.
fn flatten(tree: &UseTree, before: &mut Segments, each: &mut impl FnMut(String, &[String])) {
    let length = before.len();
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, each);
        }
        UseTree::Name(name) if name.ident == "self" => {
            each(before.last().cloned().unwrap_or_default(), before);
        }
        UseTree::Name(name) => {
            before.push(name.ident.to_string());
            each(name.ident.to_string(), before);
        }
        UseTree::Rename(rename) => {
            before.push(rename.ident.to_string());
            each(rename.rename.to_string(), before);
        }
        UseTree::Glob(_) => each(format!("{}::*", before.join("::")), before),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, each);
            }
        }
    }
    before.truncate(length);
}

/// The paths in a file, but those in `mod` blocks, which are modules of their own.
#[derive(Default)]
struct Written {
    paths: Vec<Segments>,
    exports: Vec<Segments>,
}

fn is_ours(path: &[String]) -> bool {
    matches!(path[0].as_str(), "crate" | "self" | "super")
}

impl<'ast> Visit<'ast> for Written {
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let private = matches!(item.vis, Visibility::Inherited);
        let paths = match private {
            true => &mut self.paths,
            // A re-export of what lies below is the face of a folder; of anything else it is an import.
            false => &mut self.exports,
        };
        flatten(&item.tree, &mut Vec::new(), &mut |name, path| {
            assert!(
                private || !name.ends_with("::*") || !is_ours(path),
                "a re-export of everything in `{}` hides where things are defined",
                path.join("::")
            );
            paths.push(path.to_vec());
        });
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path.segments.iter().map(|s| s.ident.to_string()).collect();
        // A single name is a local, or an import that is seen above.
        if segments.len() > 1 {
            self.paths.push(segments);
        }
        visit::visit_path(self, path);
    }
}

/// The strongly connected parts of more than one file.
fn circles(edges: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> Vec<BTreeSet<PathBuf>> {
    let reach = |from: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<_> = edges[from].iter().collect();
        while let Some(file) = next.pop() {
            if seen.insert(file.clone()) {
                next.extend(edges.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|file| (file, reach(file))).collect();
    let mut circles = Vec::<BTreeSet<PathBuf>>::new();
    for (file, to) in &reached {
        let knows = |other: &&PathBuf| reached.get(other).is_some_and(|back| back.contains(*file));
        let circle: BTreeSet<_> = to.iter().filter(knows).cloned().collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// Imports of the library that lead to a higher layer.
fn upward(edges: &BTreeMap<PathBuf, BTreeSet<PathBuf>>, problems: &mut String) -> Result<()> {
    let layer = |file: &Path| {
        let top = file.iter().next().map(|part| part.to_string_lossy())?;
        let top = top.trim_end_matches(".rs").to_owned();
        LAYERS
            .iter()
            .position(|(_, modules)| modules.contains(&top.as_str()))
    };
    for (from, to) in edges {
        if layer(from).is_none() && from.as_os_str() != "lib.rs" {
            writeln!(
                problems,
                "{} is in no layer: see LAYERS in xtask/src/layers.rs",
                name(from)
            )?;
        }
        for to in to {
            if let (Some(low), Some(high)) = (layer(from), layer(to))
                && low < high
            {
                let names = (LAYERS[low].0, LAYERS[high].0);
                writeln!(
                    problems,
                    "{} ({}) imports {} ({})",
                    name(from),
                    names.0,
                    name(to),
                    names.1
                )?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate with these files, by their names.
    fn found(name: &str, files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let directory = std::env::temp_dir().join(format!("layers-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        let edges = Crate::read(&directory.join("lib.rs"))
            .expect("read")
            .edges();
        fs::remove_dir_all(&directory).expect("removed");
        let mut found = Vec::new();
        for circle in circles(&edges) {
            found.push(circle.iter().map(|file| super::name(file)).collect());
        }
        found
    }

    #[test]
    fn a_circle_is_found_and_its_end_seen() {
        let root = ("lib.rs", "mod a; mod b;");
        let a = ("a.rs", "use crate::b::B; pub struct A(B);");
        let circle = found(
            "circle",
            &[root, a, ("b.rs", "pub struct B(Option<crate::a::A>);")],
        );
        assert_eq!(circle, [["a.rs", "b.rs"]]);
        let line = found("line", &[root, a, ("b.rs", "pub struct B;")]);
        assert!(line.is_empty(), "{line:?}");
        let tests = "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }";
        assert!(found("tests", &[root, a, ("b.rs", tests)]).is_empty());
        for hidden in [
            "pub(crate) use crate::a::A; pub struct B(Option<Box<A>>);",
            "#[cfg(not(test))] use crate::a::A; pub struct B;",
            "#[cfg(any(test, feature = \"x\"))] use crate::a::A; pub struct B;",
        ] {
            assert!(
                !found("hidden", &[root, a, ("b.rs", hidden)]).is_empty(),
                "{hidden}"
            );
        }
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines() {
        let files = [
            ("lib.rs", "mod a; mod folder;"),
            ("folder/mod.rs", "mod inner; pub use self::inner::Inner;"),
            ("folder/inner.rs", "use crate::a::A; pub struct Inner(A);"),
            (
                "a.rs",
                "use crate::folder::Inner; pub struct A(Option<Box<Inner>>);",
            ),
        ];
        assert_eq!(found("export", &files), [["a.rs", "folder/inner.rs"]]);
    }
}
