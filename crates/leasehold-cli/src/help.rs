//! The text of `--help` below the options. Each paragraph is one line here: clap wraps it to the terminal.
//!
//! The codes are those of [`exit_codes`](crate::exit_codes).

/// For `run`.
pub(crate) const RUN: &str = "\
Exit codes:
  the command's own, unchanged; 128+N when signal N ended it, or ended the wait
  64   the command line is invalid
  69   the store is unreachable, throttles, or answers too late to start
  75   not acquired: held by another, or the wait expired (-E changes it)
  76   the lock was lost: the command was stopped, or had ended by itself after its lease (--report tells which)
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, TLS, table missing or with a wrong schema, lease sums, unreadable record
  124  --max-hold was reached, and the command was stopped
  125  leasehold itself failed
  126  the command was found but cannot be run
  127  the command was not found, or the interpreter of a script

Durations (DUR) need a unit: h, m, s, ms, us or ns, as in `24h`, `1m30s` or `500ms`.

A store that does not answer: when requests have failed for 10s, the wait ends with 69, whatever -w says. If a request is then still \
unanswered, its clean-up takes up to 3s more. With a silent store, -n takes about 13s. -w takes 3s longer than its value, but about \
16s at most.

AWS: leasehold reads the variables of the AWS CLI, AWS_CA_BUNDLE included, and HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. An empty one \
counts as unset. Before the first request, loading credentials may take 30s, whatever -n and -w say. A credential_process that takes longer \
is killed.

Environment of the command:
  LEASEHOLD_NAME, LEASEHOLD_TOKEN, LEASEHOLD_LEASE_MS, LEASEHOLD_STORE
  LEASEHOLD_TOKENS: with --key, a line `name=token` for each lock; the variables above are those of NAME
  LEASEHOLD_PARENT_*: the same for the lock of the outer run
  LEASEHOLD_GRANTS: the grants of this lock and of all outer ones; a run inside that would wait for itself for ever ends with 75. \
  Directly below `env -i` it is not recognised: bound the wait with -w
  LISTEN_PID, WATCHDOG_PID: the command's pid, if systemd had set leasehold's; a watchdog also needs NotifyAccess=all

Several locks: `leasehold run NAME --key NAME2 --key NAME3 -- CMD` acquires all of them or none, in the order of their names, so that two such \
calls never wait for each other. -w bounds the whole wait. The loss of one is the loss of all. While it waits for one, it keeps others from \
those before it: name few.

Signals: leasehold forwards INT, TERM, HUP, QUIT, USR1, USR2 and WINCH to the command. It does nothing more: --signal and --grace are for a \
lost lock and --max-hold, and a command that ignores TERM runs on under the lock. During --hold-at-least the command has ended already: \
the signal ends leasehold with the command's code, and the lease expires. Signals that were blocked or ignored at the start stay so for \
the command.

The lock is renewed until every process that the command has started is gone (--detach-ok: until the command is gone). A message names \
these processes. TERM, INT and Ctrl-C then reach all of them; without /proc, only those in the command's process group. A command that \
KILL does not end at --max-hold, as under sudo, keeps the lock while it lives.

`kill -9`, on Linux: leasehold is two processes, a guardian and its worker `lh-worker`. If either is killed, the other kills the command with \
all that it has started, and then releases the lock; the exit code is 137, and --report has the outcome `killed`. With --hold-at-least, or where \
a sandbox forbids subreapers, the lease expires instead. If both are killed at once, or the command is set-uid as sudo is, processes may run on \
while the lease expires. A KILL of the process group of a job without a terminal spares the worker.

No lease stops a host that was frozen from running on afterwards. Pass LEASEHOLD_TOKEN to the protected resource, which must refuse smaller \
tokens than it has seen.";

/// For `once`.
pub(crate) const ONCE: &str = "\
`once` promises one completion, not one effect: a run whose host dies after the work, and before that is recorded, is replaced, and the work \
runs again. Give LEASEHOLD_TOKEN to what the command changes.

Exit codes:
  0    the work was done already, by another run of this name that is remembered (-E changes it, but not with --replay or of a failure)
  the command's own: it ran now; or it ran before, with --replay, or if its failure is remembered
  69   also: the command ran, and the store has not confirmed its record
  75   another runs it now, and -n or -w did not wait for its end
  76   the lock was lost while the command ran: another may run it, and nothing is remembered
  others as for `leasehold run`

A command that fails, or is stopped by --max-hold, leaves the work free for the next call, unless --remember-failures. So does a lost lock, a \
killed leasehold and a command that cannot be run, in any case.

Cron on many hosts: `leasehold once NAME --every 24h -- CMD` at the same time on all of them. While their clocks agree within the tolerance, \
one of them runs it, each time. If clocks disagree by more, two runs begin no closer than the period less the tolerance, in the store's time. \
On DynamoDB use a --tolerance of 3s or more: the time in its answers has whole seconds. A call that finds it running waits for its \
end, and replaces a runner that has died.

--replay keeps up to 850 bytes of standard output, which is then a pipe. On DynamoDB more than some 600 bytes cost a second write unit.

`leasehold show NAME` says when it was done, by whom, and until when that is remembered. `leasehold forget NAME` lets it run again.";

/// For `forget`.
pub(crate) const FORGET: &str = "\
Exit codes:
  0    done, also if nothing was remembered
  64   the command line is invalid, or the work runs now: nothing was changed
  69   the store is unreachable or throttles
  76   it began to run again at this moment
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, table missing or with a wrong schema, unreadable record
  125  leasehold itself failed";

/// For `elect`.
pub(crate) const ELECT: &str = "\
Exit codes:
  the command's own, when a signal to leasehold ended it, and with --once; 128+N when signal N came while no command ran
  64   the command line is invalid
  69   the store gave an unexpected answer
  75   the name is that of work that `once` has done, or the lock of an outer run
  76   the term was lost, with --once or after a signal; or processes of the command cannot be stopped: it does not stand again beside them
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, TLS, table missing or with a wrong schema, lease sums, unreadable record
  124  --max-hold was reached, with --once or after a signal
  125  leasehold itself failed
  126  the command was found but cannot be run, at the beginning or with --once
  127  the command was not found, or the interpreter of a script, at the beginning or with --once

Terms: one candidate leads at a time, and its command runs. When the command has ended with all that it started, the term is released, and \
the next candidate leads at once. leasehold stands again after 1s. The pause doubles while terms are shorter than 10s, up to 1m. When the \
term is lost, the command is stopped as `run` does it. A store that does not answer is a warning, and leasehold stands again.

Environment of the command, signals, and `kill -9`: as for `run`. LEASEHOLD_TOKEN grows with every term. TERM ends the command and then the election, \
and so does an INT, QUIT or HUP that ends the command within 10s. While no command runs, TERM, INT and QUIT end the election, and HUP if there is a \
terminal. A leader that is killed is followed at once; if its guardian and \
worker are both killed, after its lease.

No lease stops a host that was frozen from running on afterwards. Pass LEASEHOLD_TOKEN to the protected resource, which must refuse smaller \
tokens than it has seen.

`leasehold watch NAME` shows each change of the leader, with --json its data.";

/// For `acquire`.
pub(crate) const ACQUIRE: &str = "\
Exit codes:
  0    acquired: it stays held until it is released, or until its lease has run out
  64   the command line is invalid, or --id-file cannot be written
  69   the store is unreachable, throttles, or answers too late to start
  75   not acquired: held by another, or the wait expired (-E changes it)
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, TLS, table missing or with a wrong schema, lease sums, unreadable record
  125  leasehold itself failed, or its output could not be written; the lock is released again
  128+N  signal N ended the wait; the lock is not held

In a script:
  id=$(leasehold acquire deploy --lease 10m -o id) || exit
  trap 'leasehold release deploy --id \"$id\"' EXIT
  leasehold renew deploy --id \"$id\" # before each long step

With --key, all locks are acquired or none, and each has its line, sorted by its name.

The JSON object: v (1), name, id (not with --id-file), token, until (UTC), lease_ms. New fields may be added. Whoever has the id can \
end the grant. Pass the token to the protected resource, which must refuse smaller tokens than it has seen.

No process is bound to the lock, so nothing stops the work when its lease runs out: renew it in time, or use `leasehold run`. On SQLite \
a reboot ends it, too.";

/// For `renew` and `release`.
pub(crate) const BY_ID: &str = "\
Exit codes:
  0    done; release: also if this id had released it before, or if the id file was never written or is empty
  64   the command line is invalid, the id is not an id, or it is of another lock
  69   the store is unreachable or throttles; the lease runs on as it was
  76   stale id: the lease ran out and another has taken the lock since (the message says who holds it now), or renew: it was released, \
or the store has no such lock; nothing was changed
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, table missing or with a wrong schema, lease sums, unreadable record
  125  leasehold itself failed

With --key, each lock has its id: repeat --id, or name the file of `leasehold acquire --id-file`. After a failure the others are still \
renewed or released, and the exit code is that of the first failure.

A lease that has run out is renewed if nobody has taken the lock since: the token is then still the largest. A released or taken lock is \
never revived. renew prints a JSON object: v (1), name, token, until (UTC), lease_ms. On DynamoDB a renewal costs one read and one write \
unit, a release one write unit.";

/// For `hold`.
pub(crate) const HOLD: &str = "\
Exit codes:
  0    held, and released after INT, TERM, HUP or another signal that ends a process
  64   the command line is invalid
  69   the store is unreachable, throttles, or answers too late to start
  75   not acquired: held by another, or the wait expired (-E changes it)
  76   the lock was lost
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, TLS, table missing or with a wrong schema, lease sums, unreadable record
  124  --max-hold was reached, and the lock was released
  125  leasehold itself failed
  128+N  signal N ended the wait; the lock is not held

When the lock is held, one JSON object goes to standard output: v (1), name, token, until (UTC) without a renewal, lease_ms. New fields may \
be added. With --key, all locks are held or none, and each has its line, sorted by its name; the loss of one ends all. A release that fails is a warning, and the lease expires.";

/// For `force-release`.
pub(crate) const FORCE: &str = "\
Exit codes:
  0    released, or the grant with this token was released already
  64   the command line is invalid, or the holder is an F# client, which has no token
  69   the store is unreachable or throttles
  76   another grant is the present one, or none: nothing was changed, and the message says who holds the lock now
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, table missing or with a wrong schema, unreadable record
  125  leasehold itself failed

The holder does not know of it until its next renewal, up to a third of its lease later, and works on until then. Stop it first if you \
can. The next token is larger, so that a protected resource that checks tokens refuses the former holder.

`leasehold show` says who did it, and why, while the lock is free, but not after the end of a slot. The first waiter gets the lock at once.";

/// For `watch`.
pub(crate) const WATCH: &str = "\
Exit codes:
  0    ended by a signal, or nobody reads its output any more
  64   the command line is invalid
  77   no credentials, or the store refuses access
  78   bad configuration: table missing or with a wrong schema, a file of another program
  125  leasehold itself failed, or its output could not be written

Events: held, renewed, handed_over, lost (its lease ran out without a release), done (by `once`), free, malformed. The first lines show the locks as they are.

It only reads: one strongly consistent read of each name in each interval (on DynamoDB one read unit), without names one listing of the \
store (on DynamoDB a scan, half a read unit for each 4 KB of the table). What begins and ends between two reads is one event or none. \
A store that does not answer is asked again; a message says so once.

JSON objects: event, at (UTC), and the fields of `leasehold show --json`, with v (1). New fields may be added.";

/// For `ls` and `show`.
pub(crate) const LOOK: &str = "\
JSON, one object a line: v (1), name, state (free, held, expired, done, failed, malformed, unknown), holder (its label), since and until (UTC, in service \
time), lease_ms, token, data, waiting, last_holder, left (its payload, kept for the next holder), last_force (who ended a grant by force last, and why), error (why the record is unreadable); of work that is done: runner, done_at, failed, result. Unknown values are null. New fields may be added.

Exit codes:
  0    done, whether or not anything is held; a lock file that does not exist yet has no locks
  64   the command line is invalid
  69   the store is unreachable or throttles
  77   no credentials, or the store refuses access; a lock file must be writable even for `ls` and `show`
  78   bad configuration: table missing or with a wrong schema, a file of another program, unreadable record
  125  leasehold itself failed";

/// For `init`.
pub(crate) const INIT: &str = "\
Exit codes:
  0    created, printed, or existing with the right schema
  64   the command line is invalid
  69   the store is unreachable or throttles
  77   no credentials, or the store refuses access
  78   bad configuration: a table with a wrong schema, no such directory, a file of another program
  125  leasehold itself failed";

/// For `doctor`.
pub(crate) const DOCTOR: &str = "\
Each finding is a line: ok, unknown, warning or problem, what was checked, and what was found. The line after a warning or a problem \
has the next command. Nothing is changed: no lock record is written, and what tries a permission on a table has a condition that never holds. \
On DynamoDB it costs about 30 read and 5 write units. Of a file, the disk's speed is measured on a file of its own.

Exit codes:
  0    no problem; there may be warnings
  64   the command line is invalid
  69, 77, 78, 125  there is a problem: the code that `run` would end with, of the first one";

/// For `sweep`.
pub(crate) const SWEEP: &str = "\
A table of multi-Region strong consistency has no TTL: call this from time to time. Held locks stay, and so does every record that its holder has \
released, or lost, less than the retention ago (7 days, or as its client has set; at least 24 hours). The whole table is read.

Exit codes:
  0    done, also if there was nothing to delete
  64   the command line is invalid, or the store is a file
  69   the store is unreachable or throttles
  77   no credentials, or the store refuses access
  78   bad configuration: AWS settings, table missing or with a wrong schema
  125  leasehold itself failed";

/// For `completions`.
pub(crate) const COMPLETIONS: &str = "\
Examples:
  bash:  leasehold completions bash > ~/.local/share/bash-completion/completions/leasehold
  zsh:   leasehold completions zsh > \"${fpath[1]}/_leasehold\"
  fish:  leasehold completions fish > ~/.config/fish/completions/leasehold.fish

Exit codes:
  0    printed
  64   the command line is invalid
  125  leasehold itself failed";

/// For `man`.
pub(crate) const MAN: &str = "\
Examples:
  this page:  leasehold man man | man -l -
  all pages:  leasehold man --dir ~/.local/share/man/man1

Exit codes:
  0    printed or written
  64   the command line is invalid, or there is no such verb
  78   a page cannot be written
  125  leasehold itself failed";

/// For `top`.
pub(crate) const TOP: &str = "\
Keys:
  q, Esc, Ctrl-C: quit
  up, down, page up, page down, home, end: scroll
  Ctrl-Z: suspend

Events are differences between two reads. A lock that was released and acquired again in between counts as handed over. A lock is lost when \
its lease ended without a release. One read takes at most 20 requests: 2,000 locks of a file, or 20 MB of a table.

Exit codes:
  0    a key ended it; 128+N when signal N did
  64   the command line is invalid, or standard output is no terminal
  69   the store is unreachable or throttles, at the start
  77   no credentials, or the store refuses access
  78   bad configuration: table missing or with a wrong schema, a file of another program
  125  leasehold itself failed";
