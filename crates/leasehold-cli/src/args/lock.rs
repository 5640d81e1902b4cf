//! The options of every verb that acquires a lock.

use std::time::Duration;

use clap::Args;
use leasehold::store::protocol::MOST;

use super::policy::PolicyArgs;
use crate::text::duration;

/// How long another holder is waited for.
#[derive(Default, Debug, Args)]
#[command(next_help_heading = "Lock")]
pub(crate) struct WaitArgs {
    /// Do not wait: end with 75 when another holds the lock
    #[arg(short = 'n', long, conflicts_with = "wait")]
    pub(crate) nonblock: bool,

    /// Wait at most this long; 0 is --nonblock [default: for ever]
    ///
    /// For a store that does not answer, see below.
    #[arg(short = 'w', long, value_name = "DUR", value_parser = duration::parse_wait, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// End with this code instead of 75 when another holds the lock
    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,
}

/// Whether others may hold the lock, too.
#[derive(Default, Debug, Args)]
#[command(next_help_heading = "Lock")]
pub(crate) struct SlotArgs {
    /// Take one of N slots, so that N holders work at once; all users of the lock name the same N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)), conflicts_with = "shared")]
    pub(crate) slots: Option<u32>,

    /// Share the lock with others that share it; a holder without this excludes them
    #[arg(short = 's', long)]
    pub(crate) shared: bool,
}

impl SlotArgs {
    /// How many may hold the lock at once; `None` for one.
    pub(crate) fn limit(&self) -> Option<u32> {
        match self.shared {
            true => Some(MOST),
            false => self.slots,
        }
    }
}

/// How the lock is acquired.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lock")]
pub(crate) struct LockArgs {
    /// How long the lock stays held if leasehold dies; it is renewed every third of this
    /// [default: 20s, or more if --grace needs it]
    ///
    /// A renewal, --grace and a margin must fit into it: with a grace of 5s, 12s are too short.
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) lease: Option<Duration>,

    /// Poll a held lock this often [default: with growing random delays]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) check_delay: Option<Duration>,

    /// Take the lock from a dead holder only after watching it for a whole lease, trusting no wall clock
    #[arg(long)]
    pub(crate) strict: bool,

    /// A text in the record while the lock is held, such as the URL of a build; others see it
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,

    /// The holder's label, which others see [default: host, program and pid]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}
