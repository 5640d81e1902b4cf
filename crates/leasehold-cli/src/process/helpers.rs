//! Processes that other code of this process starts, as the AWS SDK does with a `credential_process`.

use rustix::process::{Signal, getpid};

use super::numbers::our_group;
use super::table::{self, Entry, Scan};

/// Kills, when dropped, all processes that were started since and still run, with their descendants. No
/// command may be started meanwhile, since it would look the same.
#[derive(Debug)]
pub(crate) struct Helpers {
    /// The earlier children. `None` without a process table: then no process is killed.
    before: Option<Vec<i32>>,
}

impl Helpers {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        let ourselves = getpid().as_raw_pid();
        let children = |scan: Scan| {
            let children = scan.entries.into_iter();
            let children = children.filter(|entry| entry.parent == ourselves);
            children.map(|entry| entry.pid).collect()
        };
        Self {
            before: table::scan().ok().map(children),
        }
    }

    /// Ends the watch without a kill, because the helpers have ended.
    pub(crate) fn done(mut self) {
        self.before = None;
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        let Ok(scan) = table::scan() else { return };
        let (ourselves, group) = (getpid(), our_group());
        let known = |entry: &Entry| before.contains(&entry.pid) || entry.group != group;
        for helper in table::descendants(&scan.entries, ourselves, known) {
            helper.signal(Signal::KILL);
        }
    }
}
