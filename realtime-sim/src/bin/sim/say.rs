//! What the command prints: whoever reads it may go away, and a disk may be full.

use core::fmt;
use std::io::{ErrorKind, Write as _, stderr, stdout};

/// Prints a line of the outcome.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::line(format_args!($($words)*))
    };
}

/// Prints a line to whoever watches, beside the outcome.
macro_rules! tell {
    ($($words:tt)*) => {
        $crate::say::aside(format_args!($($words)*))
    };
}

pub(super) use {say, tell};

pub(super) fn line(words: fmt::Arguments<'_>) {
    let mut out = stdout().lock();
    if let Err(error) = out.write_fmt(words).and_then(|()| out.write_all(b"\n")) {
        end(&error);
    }
}

pub(super) fn aside(words: fmt::Arguments<'_>) {
    // Where nobody can be told, the exit code says enough.
    let _ = writeln!(stderr(), "{words}");
}

/// Ends the command when the outcome cannot be written: in silence when nobody reads on, as other
/// tools do, and with an error otherwise.
fn end(error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    aside(format_args!("error: the output cannot be written: {error}"));
    std::process::exit(1);
}
