//! `leasehold`: runs a command under a distributed lock, and shows locks.
//!
//! The library handles the locks. This binary handles the command line, processes and signals, TLS and AWS
//! configuration, messages and exit codes. Its modules, from the highest layer to the lowest:
//!
//! - [`args`] the command line, [`help`] the end of its help, [`plan`] the plan of `run`
//! - [`verbs`]: `run`, `elect`, `hold`, `acquire`, `renew`, `release`, `force-release`, `ls` and `show`, `watch`, `init`,
//!   `doctor`, `top`, `completions` and `man`
//! - [`store`] the location of the locks and its store, [`process`] the command and its signals
//! - [`failure`], [`finding`], [`panics`], [`exit_codes`], [`mod@messages`], [`outlet`]: errors and messages; [`text`]: formats

mod args;
mod exit_codes;
mod failure;
mod finding;
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

use self::args::{Memory, RunArgs, Stop, Verb, VerbosityArgs};
use self::failure::Failure;
use self::messages::{Messages, Verbosity, Warnings};
use self::process::{Guardian, Role};
use self::store::own_failure;
use self::verbs::{
    acquire, by_id, doctor, elect, force, forget, generate, hold, init, list, run, sweep, top,
    watch,
};

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
    let verbosity = verb.verbosity();
    // Before any thread starts. Its error is written below.
    let role = match &verb {
        Verb::Run(_) | Verb::Once(_) | Verb::Elect(_) => process::separate(),
        _ => Ok(Role::Worker(Guardian::default())),
    };
    let messages = messages(verbosity);
    // The hook has written the panic. The unwind has killed the command, and the lease expires.
    let code = catch_unwind(AssertUnwindSafe(|| carry_out(verb, role, &messages)));
    messages.end();
    code.unwrap_or(exit_codes::OWN_FAILURE).into()
}

fn carry_out(verb: Verb, role: io::Result<Role>, messages: &Arc<Messages>) -> u8 {
    match verb {
        Verb::Run(args) => run_in(role, *args, None, messages),
        Verb::Once(args) => run_in(role, args.run, Some(args.memory), messages),
        Verb::Forget(args) => told(messages, forget::forget(args, messages)),
        Verb::Elect(args) => match role {
            Ok(Role::Worker(guardian)) => elect::elect(*args, &Arc::new(guardian), messages),
            Ok(Role::Survivor(survivor)) => elect::survived(*args, &survivor, messages),
            Err(error) => told(messages, Err(own_failure("cannot start a process", &error))),
        },
        Verb::Acquire(args) => acquire::acquire(*args, messages),
        Verb::Renew(args) => told(messages, by_id::renew(args, messages)),
        Verb::Release(args) => told(messages, by_id::release(args, messages)),
        Verb::Hold(args) => hold::hold(*args, messages),
        Verb::ForceRelease(args) => told(messages, force::force_release(args, messages)),
        Verb::Ls(args) => told(messages, list::ls(args, messages)),
        Verb::Show(args) => told(messages, list::show(args, messages)),
        Verb::Watch(args) => told(messages, watch::watch(args, messages)),
        Verb::Top(args) => top::top(args, messages).unwrap_or_else(|failure| {
            messages.failure(&failure);
            failure.code
        }),
        Verb::Init(args) => told(messages, init::init(args, messages)),
        Verb::Doctor(args) => told(messages, doctor::doctor(args)),
        Verb::Sweep(args) => told(messages, sweep::sweep(args, messages)),
        Verb::Completions(args) => told(messages, generate::completions(&args)),
        Verb::Man(args) => told(messages, generate::man(&args, messages)),
    }
}

fn run_in(
    role: io::Result<Role>,
    args: RunArgs,
    once: Option<Memory>,
    messages: &Arc<Messages>,
) -> u8 {
    match role {
        Ok(Role::Worker(guardian)) => run::run(args, once, &Arc::new(guardian), messages),
        Ok(Role::Survivor(survivor)) => run::survived(args, &survivor, messages),
        Err(error) => told(messages, Err(own_failure("cannot start a process", &error))),
    }
}

/// The messages of this run, which include the library's warnings and panics.
fn messages(verbosity: VerbosityArgs) -> Arc<Messages> {
    let messages = Arc::new(Messages::new(verbosity.into()));
    Warnings::start(messages.clone());
    let panicked = messages.clone();
    // The standard hook writes to standard error itself, and may block for ever.
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
