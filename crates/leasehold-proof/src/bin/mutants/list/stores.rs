//! The stores: DynamoDB's expressions, and what SQLite knows of its machine.

use super::{Edit, Mutant};

const EXPRESSIONS: &str = "crates/leasehold/src/store/dynamodb/expressions.rs";
const DATABASE: &str = "crates/leasehold/src/store/sqlite/database.rs";
const PROCESS: &str = "crates/leasehold/src/store/sqlite/process.rs";

const NATIVE: &str =
    "            \"#client = :seen_client AND #token = :seen_token AND #count = :seen_count\",
        )
        .text(\":seen_client\", owner)
        .number(\":seen_token\", token)
        .number(\":seen_count\", renew_count),";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "DynamoDB: acquire takes what is not ours",
        breaks: "acquire without `attribute_exists(V)`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "let free = \"attribute_exists(#version) AND attribute_not_exists(#client)\";",
            new: "let free = \"attribute_not_exists(#client)\";",
        }],
    },
    Mutant {
        name: "DynamoDB: acquire takes a held key",
        breaks: "acquire without `attribute_not_exists(ClientId)`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "let free = \"attribute_exists(#version) AND attribute_not_exists(#client)\";",
            new: "let free = \"attribute_exists(#version)\";",
        }],
    },
    Mutant {
        name: "DynamoDB: a clock far behind shortens the TTL",
        breaks: "acquire without its conjunct on a guessed TTL",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "true => \" AND (attribute_not_exists(#ttl) OR #ttl <= :ttl)\",",
            new: "true => \"\",",
        }],
    },
    Mutant {
        name: "DynamoDB: take-over does not compare the owner",
        breaks: "the compare-and-set without ClientId",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: NATIVE,
            new: "            \"#token = :seen_token AND #count = :seen_count\",
        )
        .number(\":seen_token\", token)
        .number(\":seen_count\", if owner.is_empty() { &0 } else { renew_count }),",
        }],
    },
    Mutant {
        name: "DynamoDB: take-over does not compare the token",
        breaks: "the compare-and-set without FencingToken",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: NATIVE,
            new: "            \"#client = :seen_client AND #count = :seen_count\",
        )
        .text(\":seen_client\", owner)
        .number(\":seen_count\", token - token + renew_count),",
        }],
    },
    Mutant {
        name: "DynamoDB: take-over does not compare the renewals",
        breaks: "the compare-and-set without RenewCount",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: NATIVE,
            new: "            \"#client = :seen_client AND #token = :seen_token\",
        )
        .text(\":seen_client\", owner)
        .number(\":seen_token\", renew_count - renew_count + token),",
        }],
    },
    Mutant {
        name: "DynamoDB: renewal does not ask for our id",
        breaks: "renewal without `ClientId = me`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "            \"#client = :me AND #token = :token AND #expires < :expires\",
        )
        .names(&[CLIENT, TOKEN, EXPIRES, TTL, COUNT])
        .text(\":me\", attempt)",
            new: "            \"#token = :token AND #expires < :expires\",
        )
        .names(&[TOKEN, EXPIRES, TTL, COUNT].map(|name| attempt.to_string().is_empty().then_some(CLIENT).unwrap_or(name)))",
        }],
    },
    Mutant {
        name: "DynamoDB: renewal does not ask for our token",
        breaks: "renewal without `FencingToken = n`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "            \"#client = :me AND #token = :token AND #expires < :expires\",
        )
        .names(&[CLIENT, TOKEN, EXPIRES, TTL, COUNT])
        .text(\":me\", attempt)
        .number(\":token\", token)",
            new: "            \"#client = :me AND #expires < :expires\",
        )
        .names(&[CLIENT, EXPIRES, TTL, if *token == u64::MAX { TOKEN } else { COUNT }])
        .text(\":me\", attempt)",
        }],
    },
    Mutant {
        name: "DynamoDB: a late renewal shortens the lease",
        breaks: "renewal without `ExpireInUnixMs < P`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "\"#client = :me AND #token = :token AND #expires < :expires\",",
            new: "\"#client = :me AND #token = :token\",",
        }],
    },
    Mutant {
        name: "DynamoDB: a renewal does not count",
        breaks: "RenewCount stays",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "\"SET #expires = :expires, #ttl = :ttl, #count = #count + :one\",",
            new: "\"SET #expires = :expires, #ttl = :ttl, #count = #count + :one - :one\",",
        }],
    },
    Mutant {
        name: "DynamoDB: release does not ask for our id",
        breaks: "release and withdrawal without `ClientId = me`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "    \"#client = :me\".clone_into(&mut expression.condition);",
            new: "    \"(#client = :me OR #client <> :me)\".clone_into(&mut expression.condition);",
        }],
    },
    Mutant {
        name: "DynamoDB: release does not ask for our token",
        breaks: "release and withdrawal without `FencingToken = n`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "expression.condition.push_str(\" AND #token = :token\");",
            new: "expression.condition.push_str(\" AND #token <> :me AND #client <> :token\");",
        }],
    },
    Mutant {
        name: "DynamoDB: a released record keeps its owner",
        breaks: "release without REMOVE ClientId",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "REMOVE #client, #holder, #data\");",
            new: "REMOVE #holder, #data\");",
        }],
    },
    Mutant {
        name: "DynamoDB: a grant keeps the token of the last",
        breaks: "FencingToken does not grow",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "None => \"if_not_exists(#token, :seed) + :one\",",
            new: "None => \"if_not_exists(#token, :seed) + :zero\",",
        }],
    },
    Mutant {
        name: "DynamoDB: every grant seeds its token anew",
        breaks: "FencingToken without if_not_exists",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "None => \"if_not_exists(#token, :seed) + :one\",",
            new: "None => \":seed + :one\",",
        }],
    },
    Mutant {
        name: "DynamoDB: a take-over counts on what was seen",
        breaks: "a take-over does not raise the token to service time",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "Some(taken_over(*token, grant.seed)),",
            new: "Some(taken_over(*token, grant.seed).min(token + 1)),",
        }],
    },
    Mutant {
        name: "DynamoDB: an F# record is taken whoever holds it",
        breaks: "the compare-and-set on an F# record without ClientId",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "            \"#client = :seen_client AND #expires = :seen_expires AND attribute_not_exists(#version)\",
        )
        .text(\":seen_client\", owner)",
            new: "            if owner.is_empty() { \"\" } else { \"#expires = :seen_expires AND attribute_not_exists(#version)\" },
        )",
        }],
    },
    Mutant {
        name: "DynamoDB: an F# record is taken whatever its expiry",
        breaks: "the compare-and-set on an F# record without ExpireInUnixMs",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "#client = :seen_client AND #expires = :seen_expires AND attribute_not_exists(#version)",
            new: "#client = :seen_client AND #expires <> :seen_client AND :seen_expires = :seen_expires AND attribute_not_exists(#version)",
        }],
    },
    Mutant {
        name: "DynamoDB: our record is taken as an F# one",
        breaks: "the compare-and-set on an F# record without `no V`",
        edits: &[Edit {
            file: EXPRESSIONS,
            old: "#expires = :seen_expires AND attribute_not_exists(#version)\",",
            new: "#expires = :seen_expires\",",
        }],
    },
    Mutant {
        name: "SQLite: another boot's grant lives on",
        breaks: "the boot id is not compared",
        edits: &[Edit {
            file: DATABASE,
            old: "(Some(boot), Some(time)) if boot != time.boot.id() => true,",
            new: "(Some(boot), Some(time)) if boot.is_empty() && time.boot.id() == boot => true,",
        }],
    },
    Mutant {
        name: "SQLite: a write judges what it read before the lock",
        breaks: "read and write are two transactions",
        edits: &[Edit {
            file: DATABASE,
            old: "        let current = fetch(&transaction, write.key()).map_err(failed)?;
        if let",
            new: "        let current = seen_before;
        if let",
        },
        Edit {
            file: DATABASE,
            old: "fn write_locked(&mut self, mut write: Write) -> Result<Outcome, StoreError> {",
            new: "fn write_locked(&mut self, mut write: Write, seen_before: Option<Stored>) -> Result<Outcome, StoreError> {",
        },
        Edit {
            file: DATABASE,
            old: "_ => self.write_locked(write)?,",
            new: "_ => self.write_locked(write, current)?,",
        }],
    },
    Mutant {
        name: "SQLite: tokens start below a deleted record's",
        breaks: "the floor of tokens is not looked at",
        edits: &[Edit {
            file: DATABASE,
            old: "grant.seed = grant.seed.max(ServiceTime(floor));",
            new: "grant.seed = grant.seed.max(ServiceTime(floor.min(0)));",
        }],
    },
    Mutant {
        name: "SQLite: a grant is bound although it must outlive its process",
        breaks: "`bound_to_process` is ignored",
        edits: &[Edit {
            file: DATABASE,
            old: "this.filter(|_| grant.bound_to_process)",
            new: "this.filter(|_| grant.bound_to_process || !grant.key.is_empty())",
        }],
    },
    Mutant {
        name: "SQLite: a living process is declared dead",
        breaks: "a process counts as dead although it runs",
        edits: &[Edit {
            file: PROCESS,
            old: "stat.started != self.started || ended",
            new: "stat.started == self.started || ended",
        }],
    },
];
