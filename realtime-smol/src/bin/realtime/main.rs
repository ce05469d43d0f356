//! The `realtime` command: try everything on a local server, or talk to a real one.
#![forbid(unsafe_code)]

mod arguments;
mod broadcast;
mod channel;
mod demo;
mod inspect;
mod listen;
mod output;
mod presence;
mod replay;
mod serve;
mod serve_arguments;
mod session;
mod told;

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Command};
use self::output::{Failure, Output};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match run(arguments.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough, as in `realtime listen … | head`.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Demo(demo) => smol::block_on(demo::run(demo, output)),
        Command::Serve(serve) => smol::block_on(serve::run(&serve, output)),
        Command::Listen(listen) => smol::block_on(listen::run(listen, output)),
        Command::Channel(channel) => smol::block_on(channel::run(channel, output)),
        Command::Presence(presence) => smol::block_on(presence::run(presence, output)),
        Command::Broadcast(broadcast) => smol::block_on(broadcast::run(broadcast, output)),
        Command::Replay(arguments) => replay::run(&arguments, output),
        Command::Inspect { vsn, from } => {
            let output = BufWriter::new(io::stdout().lock());
            Ok(inspect::run(vsn, from.into(), io::stdin().lock(), output)?)
        }
    }
}
