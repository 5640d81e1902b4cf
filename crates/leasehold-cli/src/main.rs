//! `leasehold`: run a command under a distributed lock, and look at locks.
//!
//! Everything about locks is the library's; this binary owns the command line, processes and signals, TLS and AWS configuration,
//! messages and exit codes. Its modules, from the roof to the ground:
//!
//! - [`args`] the command line, [`notes`] the end of its help; [`plan`] what `run` is going to do
//! - [`run`], [`look`] (`ls`, `show`), [`init`]: the verbs
//! - [`open`] the store behind a [`location`]; [`process`] the command and its signals
//! - [`failure`], [`panics`], [`exit_codes`], [`mod@messages`], [`outlet`]: how it ends and what is said; [`duration`], [`times`]: text

mod args;
mod exit_codes;
mod failure;
mod help;
mod messages;
mod outlet;
mod panics;
mod plan;
mod process;
mod store;
mod text;
mod verbs;

use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use self::args::{Stop, Verb, VerbosityArgs};
use self::failure::Failure;
use self::messages::{Messages, Verbosity, Warnings};
use self::store::own_failure;
use self::verbs::{init, list, run};

fn main() -> ExitCode {
    let verb = match args::parse() {
        Ok(cli) => cli.verb,
        Err(Stop::Printed(code)) => return code.into(),
        Err(Stop::Failed(failure)) => {
            let messages = Messages::new(Verbosity::Normal);
            messages.failure(&failure);
            messages.end();
            return failure.code.into();
        }
    };
    let verbosity = match &verb {
        Verb::Run(args) => args.verbosity,
        Verb::Ls(args) => args.verbosity,
        Verb::Show(args) => args.verbosity,
        Verb::Init(args) => args.verbosity,
    };
    // Before anything starts a thread. What comes of it is said below.
    let separate = match &verb {
        Verb::Run(_) => process::separate(),
        _ => Ok(()),
    };
    let messages = messages(verbosity);
    // The panic has been told; what unwound has killed the command, and its lock runs out.
    let code = catch_unwind(AssertUnwindSafe(|| carry_out(verb, separate, &messages)));
    messages.end();
    code.unwrap_or(exit_codes::OWN_FAILURE).into()
}

fn carry_out(verb: Verb, separate: io::Result<()>, messages: &Arc<Messages>) -> u8 {
    match verb {
        Verb::Run(args) => match separate {
            Ok(()) => run::run(*args, messages),
            Err(error) => told(messages, Err(own_failure("cannot start a process", &error))),
        },
        Verb::Ls(args) => told(messages, list::ls(args, messages)),
        Verb::Show(args) => told(messages, list::show(args, messages)),
        Verb::Init(args) => told(messages, init::init(args, messages)),
    }
}

/// The messages of this run, which also tells of the library's warnings and of panics.
fn messages(verbosity: VerbosityArgs) -> Arc<Messages> {
    let messages = Arc::new(Messages::new(verbosity.into()));
    Warnings::start(messages.clone());
    let panicked = messages.clone();
    // The standard one writes to standard error itself, and may never come back from there.
    panic::set_hook(Box::new(move |panic| {
        if !panics::are_caught() {
            panicked.panicked(panic);
        }
    }));
    messages
}

fn told(messages: &Messages, done: Result<(), Failure>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            messages.failure(&failure);
            failure.code
        }
    }
}
