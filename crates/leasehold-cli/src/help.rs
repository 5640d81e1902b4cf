//! What `--help` says below the options. Each paragraph is one line here: clap wraps it to the terminal.
//!
//! The codes are those of [`exit_codes`](crate::exit_codes).

/// For `run`.
pub(crate) const RUN: &str = "\
Exit codes:
  the command's own, unchanged; 128+N when signal N ended it, or us while we waited
  64   the command line makes no sense
  69   the store is unreachable, throttles, or answers too late to start
  75   not acquired: held by another, or the wait ran out (-E changes it)
  76   the lock was lost: the command was stopped, or had ended by itself after its lease (--report tells which)
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, TLS, table missing or of the wrong shape, lease sums, unreadable record
  124  --max-hold was reached, and the command was stopped
  125  leasehold itself failed
  126  the command was found but cannot be run
  127  the command was not found, or the interpreter of a script

Durations (DUR) need a unit: h, m, s, ms, us or ns, as in `24h`, `1m30s` or `500ms`.

A store that does not answer: once requests have failed for 10s the wait ends with 69, whatever -w says. When we give up and a claim is \
still without an answer, up to 3s more are spent on taking it back. With a store that is silent, -n takes about 13s, and -w \
3s longer than it says, but about 16s at most.

AWS: the variables of the AWS CLI are read, AWS_CA_BUNDLE too, and HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; an empty one is not set. Getting \
credentials may take 30s, before the first request and whatever -n and -w say; a credential_process that takes longer is killed.

Environment of the command:
  LEASEHOLD_NAME, LEASEHOLD_TOKEN, LEASEHOLD_LEASE_MS, LEASEHOLD_STORE
  LEASEHOLD_PARENT_*: those of the lock around this one
  LEASEHOLD_GRANTS: the grants of this lock and of all around it; a run inside that would wait for itself for ever ends with 75. \
Directly below `env -i` it is not recognised: bound the wait with -w
  LISTEN_PID, WATCHDOG_PID: the command's, where systemd had set ours; a watchdog also needs NotifyAccess=all

Signals: INT, TERM, HUP, QUIT, USR1, USR2 and WINCH that are sent to leasehold go on to the command, as they are. Nothing follows them: \
--signal and --grace are for a lost lock and --max-hold, and a command that ignores TERM runs on under the lock. During --hold-at-least \
the command has ended already: the signal ends leasehold with the command's code, and leaves the lock to run out with its lease. \
Signals that were blocked or ignored at the start stay so for the command.

The lock is kept, and renewed, until every process that the command has started is gone (--detach-ok opts out). A message names who is \
waited for. TERM, INT and Ctrl-C then reach all of them; without /proc, only those in the command's process group. A command that KILL \
does not end at --max-hold, as under sudo, keeps the lock while it lives.

That takes a leasehold that lives. `kill -9` of leasehold kills the command on Linux, but not what the command had started, and not a \
set-uid command such as sudo: those run on, while the lock runs out with its lease and goes to the next.

No lease stops a host that was frozen from running on afterwards, either. Give LEASEHOLD_TOKEN to what the lock protects, and have it refuse \
smaller ones than it has seen.";

/// For `ls` and `show`.
pub(crate) const LOOK: &str = "\
Exit codes:
  0    done, whether or not anything is held; a lock file that does not exist yet has no locks
  64   the command line makes no sense
  69   the store is unreachable or throttles
  77   no credentials, or the store refuses access; a lock file has to be writable even for looking
  78   bad configuration: table missing or of the wrong shape, a file of others, unreadable record
  125  leasehold itself failed";

/// For `init`.
pub(crate) const INIT: &str = "\
Exit codes:
  0    created, printed, or there already and of the right shape
  64   the command line makes no sense
  69   the store is unreachable or throttles
  77   no credentials, or the store refuses access
  78   bad configuration: a table of the wrong shape, no such directory, a file of others
  125  leasehold itself failed";
