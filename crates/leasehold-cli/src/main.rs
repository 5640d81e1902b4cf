//! `leasehold`: run a command under a distributed lock, and look at locks.
//!
//! Everything about locks is the library's; this binary owns the command line, processes and signals, TLS and AWS configuration,
//! messages and exit codes. Its rooms, from the roof to the ground:
//!
//! - [`args`] the command line, [`notes`] the end of its help; [`plan`] what `run` is going to do
//! - [`run`], [`look`] (`ls`, `show`), [`init`]: the verbs
//! - [`open`] the store behind a [`location`]; [`process`] the command and its signals
//! - [`failure`], [`exit_codes`], [`mod@voice`]: how it ends and what is said; [`duration`], [`times`]: text

mod args;
mod duration;
mod exit_codes;
mod failure;
mod init;
mod location;
mod look;
mod notes;
mod open;
mod plan;
mod process;
mod run;
mod times;
mod voice;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use self::args::{Verb, VolumeArgs};
use self::failure::Failure;
use self::voice::{Voice, Warnings};

fn main() -> ExitCode {
    // The panic has been told; what unwound has killed the command, and its lock runs out.
    let code = catch_unwind(AssertUnwindSafe(carry_out)).unwrap_or(exit_codes::OWN_FAILURE);
    code.into()
}

fn carry_out() -> u8 {
    let verb = match args::parse() {
        Ok(cli) => cli.verb,
        Err(code) => return code,
    };
    match verb {
        Verb::Run(args) => {
            let voice = voice(args.volume);
            run::run(*args, &voice)
        }
        Verb::Ls(args) => {
            let voice = voice(args.volume);
            told(&voice, look::ls(args, &voice))
        }
        Verb::Show(args) => {
            let voice = voice(args.volume);
            told(&voice, look::show(args, &voice))
        }
        Verb::Init(args) => {
            let voice = voice(args.volume);
            told(&voice, init::init(args, &voice))
        }
    }
}

/// The voice of this run, which also tells of the library's warnings.
fn voice(volume: VolumeArgs) -> Arc<Voice> {
    let voice = Arc::new(Voice::new(volume.into()));
    // It can only have been set before, and nobody does that.
    let _set = tracing::subscriber::set_global_default(Warnings(voice.clone()));
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
