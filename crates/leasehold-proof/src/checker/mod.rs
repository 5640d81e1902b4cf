//! The protocol checker.

mod answers;
mod broken;
mod client;
mod fsharp;
mod ledger;
mod message;
mod moves;
mod search;
mod service;
mod shape;
mod states;
mod words;
mod world;

use shape::{ClientShape, Kind, Shape};

/// Entry.
///
/// # Errors
///
/// A violation.
pub fn main(arguments: &[String]) -> anyhow::Result<()> {
    let horizon: u8 = arguments[0].parse()?;
    let requests: u8 = arguments[1].parse()?;
    let attempts: u8 = arguments[2].parse()?;
    let clients: usize = arguments[3].parse()?;
    let c = ClientShape { kind: Kind::Ours, walls_ms: &[0], rate: (1, 1), attempts, requests };
    let shape = Shape::new("t", "t", vec![c; clients], horizon);
    let f = search::explore(shape);
    println!("{} states {} transitions depth {} parts {:?}", f.states, f.transitions, f.depth, f.parts);
    if let Err(t) = f.result {
        match t { search::Trouble::Breach { breach, trace } => { println!("{breach:?}"); for l in trace { println!("{l}"); } } search::Trouble::TooMany => println!("too many") }
    }
    Ok(())
}
