//! Directories.

use std::path::PathBuf;

/// The workspace's root directory.
pub(crate) fn workspace() -> PathBuf {
    // The variable at run time comes before that of the build: a copied target directory must not lead to the old tree.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// Cargo's target directory, where downloads and logs go too.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Relative to the directory that cargo was called in, which is ours too.
        Some(target) if !target.is_empty() => {
            std::path::absolute(&target).unwrap_or_else(|_| PathBuf::from(target))
        }
        _ => workspace().join("target"),
    }
}
