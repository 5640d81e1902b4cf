//! The protocol checker. To be written.

/// Entry.
///
/// # Errors
///
/// Always, until it is written.
pub fn main(_arguments: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
