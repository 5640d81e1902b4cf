//! The standard output of a command whose output is kept.
//!
//! A thread passes it on, since a reader may be slow. Invariant: nothing here delays the end of the lease for longer
//! than [`LATE`].

use std::io::{self, PipeReader, Read, Write};
use std::thread;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use tokio::sync::oneshot;

use crate::messages::Messages;
use crate::process::Command;

/// In bytes: the largest output that is kept. With the line before it, it fits into the library's results.
const LARGEST_OUTPUT: usize = 850;

/// How long the rest of the output may take after the end of the command.
const LATE: Duration = Duration::from_secs(5);

/// What is left of an output.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// Nothing: it was too large, or its reader too slow.
    No,
    /// All of it.
    All(Vec<u8>),
}

/// The output of a command that runs.
#[derive(Debug)]
pub(crate) struct Output {
    kept: oneshot::Receiver<Kept>,
}

impl Output {
    /// Passes the standard output of the command on, and keeps the beginning.
    ///
    /// # Errors
    ///
    /// When there is no pipe or no thread.
    pub(crate) fn of(command: &mut Command) -> io::Result<Output> {
        let (reader, writer) = io::pipe()?;
        let (sender, kept) = oneshot::channel();
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || drop(sender.send(pass_on(reader))))?;
        command.pipe_output(writer);
        Ok(Output { kept })
    }

    /// What was kept, when the command has ended and is dropped.
    pub(crate) async fn end(self, messages: &Messages) -> Kept {
        tokio::select! {
            biased;
            kept = self.kept => kept.unwrap_or(Kept::No),
            () = SystemClock.sleep_until(SystemClock.elapsed().plus(LATE)) => {
                messages.note("nobody reads the output of the command, or a process that it left has it open: it is not kept");
                Kept::No
            }
        }
    }
}

fn pass_on(mut reader: PipeReader) -> Kept {
    let mut buffer = [0; 16 * 1024];
    let mut kept = Some(Vec::new());
    let mut stdout = Some(io::stdout().lock());
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Kept::No,
        };
        kept = kept.filter(|kept: &Vec<u8>| kept.len() + read.len() <= LARGEST_OUTPUT);
        if let Some(kept) = &mut kept {
            kept.extend(read);
        }
        // Without a reader, the command runs on as under `tee`.
        let written = stdout
            .as_mut()
            .map(|out| out.write_all(read).and_then(|()| out.flush()));
        if let Some(Err(_)) = written {
            stdout = None;
        }
    }
    kept.map_or(Kept::No, Kept::All)
}
