//! The `realtime` command.

fn main() {}
