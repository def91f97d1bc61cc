//! The fault injection's command line.

fn main() {}
