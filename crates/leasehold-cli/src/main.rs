//! `leasehold`: run a command under a distributed lock, and look at locks.
//!
//! Everything about locks is the library's; this binary owns the command line, processes and signals, TLS and AWS configuration,
//! messages and exit codes. Its rooms, from the roof to the ground:
//!
//! - [`args`] the command line, [`notes`] the end of its help; [`plan`] what `run` is going to do
//! - [`run`], [`look`] (`ls`, `show`), [`init`]: the verbs
//! - [`open`] the store behind a [`location`]; [`process`] the command and its signals
//! - [`failure`], [`panics`], [`exit_codes`], [`mod@voice`], [`outlet`]: how it ends and what is said; [`duration`], [`times`]: text

mod args;
mod duration;
mod exit_codes;
mod failure;
mod init;
mod location;
mod look;
mod notes;
mod open;
mod outlet;
mod panics;
mod plan;
mod process;
mod run;
mod text;
mod times;
mod voice;

use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use self::args::{Stop, Verb, VolumeArgs};
use self::failure::Failure;
use self::open::own_failure;
use self::voice::{Voice, Volume, Warnings};

fn main() -> ExitCode {
    let verb = match args::parse() {
        Ok(cli) => cli.verb,
        Err(Stop::Printed(code)) => return code.into(),
        Err(Stop::Failed(failure)) => {
            let voice = Voice::new(Volume::Normal);
            voice.failure(&failure);
            voice.end();
            return failure.code.into();
        }
    };
    let volume = match &verb {
        Verb::Run(args) => args.volume,
        Verb::Ls(args) => args.volume,
        Verb::Show(args) => args.volume,
        Verb::Init(args) => args.volume,
    };
    // Before anything starts a thread. What comes of it is said below.
    let separate = match &verb {
        Verb::Run(_) => process::separate(),
        _ => Ok(()),
    };
    let voice = voice(volume);
    // The panic has been told; what unwound has killed the command, and its lock runs out.
    let code = catch_unwind(AssertUnwindSafe(|| carry_out(verb, separate, &voice)));
    voice.end();
    code.unwrap_or(exit_codes::OWN_FAILURE).into()
}

fn carry_out(verb: Verb, separate: io::Result<()>, voice: &Arc<Voice>) -> u8 {
    match verb {
        Verb::Run(args) => match separate {
            Ok(()) => run::run(*args, voice),
            Err(error) => told(voice, Err(own_failure("cannot start a process", &error))),
        },
        Verb::Ls(args) => told(voice, look::ls(args, voice)),
        Verb::Show(args) => told(voice, look::show(args, voice)),
        Verb::Init(args) => told(voice, init::init(args, voice)),
    }
}

/// The voice of this run, which also tells of the library's warnings and of panics.
fn voice(volume: VolumeArgs) -> Arc<Voice> {
    let voice = Arc::new(Voice::new(volume.into()));
    // It can only have been set before, and nobody does that.
    let _set = tracing::subscriber::set_global_default(Warnings(voice.clone()));
    let panicked = voice.clone();
    // The standard one writes to standard error itself, and may never come back from there.
    panic::set_hook(Box::new(move |panic| {
        if !panics::are_caught() {
            panicked.panicked(panic);
        }
    }));
    voice
}

fn told(voice: &Voice, done: Result<(), Failure>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            voice.failure(&failure);
            failure.code
        }
    }
}
