//! The protocol checker.

mod answers;
mod broken;
mod client;
mod configs;
mod fsharp;
mod ledger;
mod message;
mod moves;
mod report;
mod search;
mod service;
mod shape;
mod states;
mod variants;
mod words;
mod world;

pub use self::report::main;
