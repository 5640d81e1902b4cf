//! The standard output of a command whose output is kept.
//!
//! One thread reads it, and another passes it on, since its reader may be slow. Invariant: no reader delays the end of
//! the lease, and a process that holds the output open delays it by [`LATE`] at most.

use std::io::{self, PipeReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use tokio::sync::oneshot;

use crate::messages::Messages;
use crate::process::Command;

/// In bytes: the largest output that is kept. With the line before it, it fits into the library's results.
const LARGEST_OUTPUT: usize = 850;

/// How many pieces of output wait for its reader: enough for one that is kept.
const CHUNKS: usize = LARGEST_OUTPUT;

/// How long the end of the output may come after that of the command.
const LATE: Duration = Duration::from_secs(5);

/// What is left of an output.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// Nothing: it was too large, or has no end.
    No,
    /// All of it.
    All(Vec<u8>),
}

/// What is to be kept of the output of a command that runs.
#[derive(Debug)]
pub(crate) struct Keeping(oneshot::Receiver<Kept>);

/// The end of the output, when all of it has been passed on.
pub(crate) type PassedOn = oneshot::Receiver<()>;

/// Passes the standard output of the command on, and keeps it while it is small.
///
/// # Errors
///
/// When there is no pipe or no thread.
pub(crate) fn of(command: &mut Command) -> io::Result<(Keeping, PassedOn)> {
    let (reader, writer) = io::pipe()?;
    let (keeps, kept) = oneshot::channel();
    let (passes, passed_on) = oneshot::channel();
    let (chunks, received) = sync_channel(CHUNKS);
    let thread = |name: &str| thread::Builder::new().name(name.to_owned());
    thread("output").spawn(move || {
        pass_on(&received);
        let _unheard = passes.send(());
    })?;
    thread("keep").spawn(move || keep(reader, &chunks, keeps))?;
    command.pipe_output(writer);
    Ok((Keeping(kept), passed_on))
}

impl Keeping {
    /// What was kept, when the command has ended.
    pub(crate) async fn end(self, messages: &Messages) -> Kept {
        tokio::select! {
            biased;
            kept = self.0 => kept.unwrap_or(Kept::No),
            () = SystemClock.sleep_until(SystemClock.elapsed().plus(LATE)) => {
                messages.note("a process that the command has left has its output open: it is not kept");
                Kept::No
            }
        }
    }
}

/// Reads the output to its end. What is small enough is kept, however slow its reader is.
fn keep(mut reader: PipeReader, chunks: &SyncSender<Vec<u8>>, keeps: oneshot::Sender<Kept>) {
    let mut buffer = [0; 4 * 1024];
    let (mut kept, mut keeps) = (Vec::new(), Some(keeps));
    let mut done = |what| keeps.take().map(|keeps| keeps.send(what));
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => {
                let _unheard = done(Kept::No);
                return;
            }
        };
        match kept.len() + read.len() <= LARGEST_OUTPUT {
            true => kept.extend(read),
            false => drop(done(Kept::No)),
        }
        // Without a reader, the command runs on as under `tee`.
        let _unread = chunks.send(read.to_vec());
    }
    let _unheard = done(Kept::All(kept));
}

fn pass_on(chunks: &Receiver<Vec<u8>>) {
    let mut stdout = io::stdout().lock();
    for chunk in chunks {
        if stdout
            .write_all(&chunk)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            return;
        }
    }
}
