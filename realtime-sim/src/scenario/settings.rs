//! How the servers, the network and the clients of a scenario are set.

use core::time::Duration;

use super::Cast;
use super::words::{Word, instead};
use crate::seed::Draw;

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident $word:literal: $type:ty = $default:expr, $draw:expr;)+) => {
        /// How the servers, the network and the clients of a scenario are set.
        ///
        /// In a scenario each is written as `set KEY VALUE` where it differs from its default.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Settings {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nIn a scenario: `set ", $word, " VALUE`.")]
                pub $field: $type,
            )+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Settings {
            /// The lines of what differs from the defaults.
            pub(super) fn write(&self, cast: &Cast) -> Vec<String> {
                let default = Self::default();
                let mut lines = Vec::new();
                $(if self.$field != default.$field {
                    lines.push(format!("set {} {}", $word, self.$field.write(cast)));
                })+
                lines
            }

            /// The first setting that no text could have made.
            pub(super) fn misfit(&self, cast: &Cast) -> Option<&'static str> {
                let fits = [$(($word, self.$field.fits(cast)),)+];
                fits.into_iter().find(|(_, fits)| !fits).map(|(word, _)| word)
            }

            pub(super) fn read(&mut self, key: &str, value: &str, cast: &Cast) -> Result<(), String> {
                match key {
                    $($word => self.$field = Word::read(value, cast)?,)+
                    _ => {
                        let instead = instead(key, [$($word,)+].into_iter());
                        return Err(format!("`{key}` is no setting; {instead}"));
                    }
                }
                Ok(())
            }

            pub(super) fn draw(draw: &mut Draw) -> Self {
                let mut settings = Self::default();
                // Most settings of most seeds are as usual.
                $(if draw.below(3) == 0 {
                    settings.$field = drawn(draw, $draw);
                })+
                settings
            }

            /// The same with one setting as usual.
            pub(crate) fn simpler(&self) -> Vec<Self> {
                let default = Self::default();
                let mut found = Vec::new();
                $(if self.$field != default.$field {
                    found.push(Self { $field: default.$field.clone(), ..self.clone() });
                })+
                found
            }
        }
    };
}

fn drawn<T>(draw: &mut Draw, choose: impl FnOnce(&mut Draw) -> T) -> T {
    choose(draw)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

settings! {
    /// What every message takes at least, one way. Default 20 ms.
    delay "delay": Duration = millis(20), |draw| millis(1 + draw.below(200));
    /// The most that is added to it, drawn for each message. Default none.
    jitter "jitter": Duration = Duration::ZERO, |draw| millis(draw.below(300));
    /// How many servers there are behind the one address; they share the database and nothing
    /// else. Default 1.
    servers "servers": u32 = 1, |draw| 1 + draw.below(3) as u32;
    /// Whether clients speak version 1 of the protocol. Default version 2.
    vsn1 "vsn1": bool = false, |_| true;
    /// Whether tokens count and expire. Default no.
    tokens "tokens": bool = false, |_| true;
    /// How long after an application is asked for a token it sets one. Default 500 ms.
    token_after "token-after": Duration = millis(500), |draw| millis(draw.below(20_000));
    /// How long a row subscription takes. Default 100 ms.
    subscribed_after "subscribed-after": Duration = millis(100), |draw| millis(draw.below(4_000));
    /// How often clients send heartbeats; a server ends a connection that is silent for 60 s.
    /// Default 25 s.
    heartbeat "heartbeat": Duration = millis(25_000), |draw| millis(5_000 + draw.below(40_000));
    /// How long clients wait for the reply to a join. Default 10 s.
    join_timeout "join-timeout": Duration = millis(10_000), |draw| millis(2_000 + draw.below(15_000));
    /// The first delay of their retries. Default 1 s.
    retry_first "retry-first": Duration = millis(1_000), |draw| millis(100 + draw.below(3_000));
    /// The longest delay of their retries. Default 30 s.
    retry_max "retry-max": Duration = millis(30_000), |draw| millis(2_000 + draw.below(60_000));
    /// How many events wait for an application at most. Default 256.
    events_max "events-max": u32 = 256, |draw| 4 + draw.below(60) as u32;
    /// How many channels a connection of a manager holds at most. Default 100.
    channels_max "channels-max": u32 = 100, |draw| 1 + draw.below(3) as u32;
    /// How many joins a second a client makes at most on a connection. Default 50.
    joins_max "joins-max": u32 = 50, |draw| 1 + draw.below(4) as u32;
    /// How long a manager keeps a channel that nobody holds. Default 1 s.
    linger "linger": Duration = millis(1_000), |draw| millis(draw.below(5_000));
}

impl Word for bool {
    fn write(&self, _: &Cast) -> String {
        if *self { "on" } else { "off" }.into()
    }

    fn read(word: &str, _: &Cast) -> Result<Self, String> {
        match word {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(format!("`{word}` is neither `on` nor `off`")),
        }
    }

    fn draw(draw: &mut Draw, _: &Cast) -> Self {
        draw.below(2) == 0
    }
}
