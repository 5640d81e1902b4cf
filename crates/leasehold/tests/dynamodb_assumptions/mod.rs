//! What leasehold assumes of DynamoDB, shown with raw requests: no lock code takes part.
//!
//! They run against DynamoDB Local (`LEASEHOLD_TEST_DYNAMODB`, set by `cargo xtask test`), or against
//! AWS itself:
//!
//! ```console
//! $ export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=eu-west-1   # and AWS_SESSION_TOKEN, if any
//! $ LEASEHOLD_TEST_AWS_TABLE=locks-test cargo test -p leasehold --all-features --test library dynamodb_assumptions
//! ```
//!
//! That table has the shape of a lock table (`leasehold init` makes one). Keys there are unique to each
//! run, and are deleted again. Where DynamoDB Local differs from what AWS documents, the name of the
//! test has `local`, and the test asserts what each of the two does.

mod conditions;
mod prices;
mod service;
mod time;
mod transactions;
mod updates;
mod values;
