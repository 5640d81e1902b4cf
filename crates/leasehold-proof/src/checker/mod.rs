//! To be written.

/// Entry.
pub(crate) fn main(_arguments: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
