//! Handles and references, each with the generation that keeps a late event from meeting a new
//! owner.

use core::fmt;
use core::num::NonZeroU32;

/// One attempt to open a transport, and the connection that came of it.
///
/// Every [`Transmit::Open`](crate::Transmit::Open) carries a new one. Input for an older socket
/// is counted and ignored, so a driver may report late without harm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(crate) connection: ConnectionId,
    pub(crate) attempt: u64,
}

impl SocketId {
    /// The connection it is an attempt of; a client has one, a manager may have more.
    #[must_use]
    pub const fn connection(self) -> ConnectionId {
        self.connection
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connection {
            ConnectionId::FIRST => write!(f, "socket{}", self.attempt),
            ConnectionId(connection) => write!(f, "socket{connection}.{}", self.attempt),
        }
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One connection of a [`Manager`](crate::manager::Manager), which opens more of them as it has
/// more channels. It outlives sockets, and its number is never another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u32);

impl ConnectionId {
    /// The one that a client is, and that a manager always has.
    pub(crate) const FIRST: Self = Self(0);
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection{}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A channel of one [`Client`](crate::Client).
///
/// The index is reused after the channel is gone, the generation is not: a stale handle finds
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    pub(crate) index: u32,
    pub(crate) generation: NonZeroU32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ch{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One accepted push; it ends in exactly one [`Outcome`](crate::Outcome).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId {
    pub(crate) connection: ConnectionId,
    pub(crate) number: u64,
}

impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connection {
            ConnectionId::FIRST => write!(f, "push{}", self.number),
            ConnectionId(connection) => write!(f, "push{connection}.{}", self.number),
        }
    }
}

impl fmt::Debug for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message reference on the wire: a decimal string, unique within one connection.
///
/// Protocol: refs count up from `"1"` on each connection; a join's own ref is the channel's
/// `join_ref` until the next join.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ref(pub(crate) u64);

impl Ref {
    /// Reads a ref this client may have sent: canonical decimal, nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        if canonical { text.parse().ok().map(Self) } else { None }
    }

    /// The decimal digits, without the heap.
    pub(crate) const fn digits(self) -> Digits {
        let mut digits = Digits { bytes: [b'0'; 20], at: 20 };
        let mut left = self.0;
        loop {
            digits.at -= 1;
            digits.bytes[digits.at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return digits;
            }
        }
    }
}

/// A ref in decimal: the largest has 20 digits.
pub(crate) struct Digits {
    bytes: [u8; 20],
    at: usize,
}

impl Digits {
    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[self.at..]).expect("digits are ASCII")
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_ref_is_written_as_it_is_shown() {
        for number in [0, 1, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(Ref(number).digits().as_str(), number.to_string());
        }
    }

    #[test]
    fn only_canonical_decimals_are_refs() {
        assert_eq!(Ref::parse("12"), Some(Ref(12)));
        for text in ["", "0", "012", "+1", "-1", "1.0", " 1", "x", "99999999999999999999"] {
            assert_eq!(Ref::parse(text), None, "{text:?}");
        }
    }
}
