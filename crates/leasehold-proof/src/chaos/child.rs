//! The command under `leasehold run`: shows that it is alive, and writes to the register with the token
//! that it was given. It knows nothing of leases; that it dies in time is what is tried here.

use anyhow::{Context, Result};
use leasehold::clock::{Clock, SystemClock};

use super::dice::Dice;
use super::event::{Event, now};
use super::register::Client;
use super::wall::pause;

/// The command's process: some beats, then success.
pub(super) fn main(arguments: &[String]) -> Result<()> {
    let [register] = arguments else {
        anyhow::bail!("a child is started by `leasehold run`, not by people");
    };
    let variable = |name| std::env::var(name).with_context(|| format!("{name} is not set"));
    let key = variable("LEASEHOLD_NAME")?;
    let token: u64 = variable("LEASEHOLD_TOKEN")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(live(&key, token, register))
}

async fn live(key: &str, token: u64, register: &str) -> Result<()> {
    let at = now();
    let key = key.to_owned();
    Event::Beat {
        key: key.clone(),
        token,
        at,
    }
    .tell()?;
    Event::Hello {
        pid: std::process::id(),
        wall_ms: SystemClock.wall_unix_ms(),
        at: now(),
    }
    .tell()?;
    let mut register = Client::connect(register).await?;
    let mut dice = Dice::new(token, 0);
    // Some are still at work when a stopped wrapper has lost their lock.
    let beats = match dice.permille(400) {
        true => 200 + dice.below(150),
        false => 2 + dice.below(30),
    };
    for _ in 0..beats {
        pause(dice.millis(5, 50)).await;
        Event::Beat {
            key: key.clone(),
            token,
            at: now(),
        }
        .tell()?;
        register.write(&key, token).await?;
    }
    Ok(())
}
