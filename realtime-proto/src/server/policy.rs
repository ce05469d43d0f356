//! Who may read and write private channels.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str::FromStr;

use super::claims::Claims;

/// Who may read and write private channels, as data: what no rule grants is refused.
///
/// It stands where a database has row level security on `realtime.messages` (protocol §5.10). A
/// channel's rights are found when it joins and whenever its token changes; a new policy holds
/// from then on. Public channels have no policy.
///
/// # Examples
///
/// ```
/// use realtime_proto::server::{Policy, Rights, Rule, ServerConfig};
///
/// let policy = Policy::closed()
///     .allow(Rule::new("room:*", Rights::ALL).for_role("authenticated"))
///     .allow(Rule::new("user:{sub}", Rights::READ))
///     .allow("news:*@anon=read:broadcast".parse()?);
/// let config = ServerConfig { policy, ..ServerConfig::default() };
/// # let _ = config;
/// # Ok::<(), realtime_proto::server::RuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy(Vec<Rule>);

/// One grant of a [`Policy`].
///
/// As text it is `TOPIC`, `TOPIC@ROLE`, `TOPIC=RIGHTS` or `TOPIC@ROLE=RIGHTS`, where rights are
/// `read`, `write`, `broadcast`, `presence`, or one of the first two with one of the others as
/// `read:presence`, separated by commas; without them everything is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    topic: String,
    role: Option<String>,
    rights: Rights,
}

/// What may be done on a private channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four rights that are granted one by one")]
pub struct Rights {
    /// Receive broadcasts.
    pub read_broadcast: bool,
    /// Send broadcasts.
    pub write_broadcast: bool,
    /// See who is present.
    pub read_presence: bool,
    /// Be present.
    pub write_presence: bool,
}

/// A text is no rule; says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No topic was named.
    #[error("a rule names a topic first, for instance room:* or user:{{sub}}")]
    NoTopic,
    /// A word is not a right.
    #[error(
        "`{word}` is not a right; write read, write, broadcast, presence, or for instance \
         read:presence"
    )]
    UnknownRight {
        /// The word.
        word: String,
    },
}

impl Policy {
    /// Everyone may do everything, the default.
    #[must_use]
    pub fn open() -> Self {
        Self(Vec::from([Rule::new("*", Rights::ALL)]))
    }

    /// Nobody may do anything, until [`allow`](Self::allow) is called.
    #[must_use]
    pub const fn closed() -> Self {
        Self(Vec::new())
    }

    /// Grants more.
    #[must_use]
    pub fn allow(mut self, rule: Rule) -> Self {
        self.0.push(rule);
        self
    }

    /// What all rules together grant on a topic, which is named without `realtime:`.
    pub(super) fn rights(&self, sub_topic: &str, claims: &Claims) -> Rights {
        let granted = self.0.iter().filter(|rule| rule.covers(sub_topic, claims));
        granted.fold(Rights::NONE, |rights, rule| rights.or(rule.rights))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::open()
    }
}

impl Rule {
    /// Grants `rights` to everyone on the topics that `topic` describes.
    ///
    /// The topic is without `realtime:`. In it `*` stands for any text, and `{sub}` for the user
    /// that the token names; without such a user it describes no topic.
    #[must_use]
    pub fn new(topic: impl Into<String>, rights: Rights) -> Self {
        Self { topic: topic.into(), role: None, rights }
    }

    /// The same for one role only.
    #[must_use]
    pub fn for_role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    fn covers(&self, sub_topic: &str, claims: &Claims) -> bool {
        const USER: &str = "{sub}";
        if self.role.as_ref().is_some_and(|role| *role != claims.role) {
            return false;
        }
        if !self.topic.contains(USER) {
            return matches(&self.topic, sub_topic);
        }
        // A user that holds a star must not reach other topics.
        let is_plain = !claims.sub.is_empty() && !claims.sub.contains('*');
        is_plain && matches(&self.topic.replace(USER, &claims.sub), sub_topic)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (target, rights) = match text.rsplit_once('=') {
            Some((target, rights)) => (target, Rights::read(rights)?),
            None => (text, Rights::ALL),
        };
        let (topic, role) = match target.rsplit_once('@') {
            Some((topic, role)) => (topic, Some(role.to_string())),
            None => (target, None),
        };
        if topic.is_empty() {
            return Err(RuleError::NoTopic);
        }
        Ok(Self { topic: topic.into(), role, rights })
    }
}

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self {
        read_broadcast: false,
        write_broadcast: false,
        read_presence: false,
        write_presence: false,
    };
    /// Everything.
    pub const ALL: Self = Self::READ.or(Self::WRITE);
    /// Receive broadcasts and see who is present.
    pub const READ: Self = Self { read_broadcast: true, read_presence: true, ..Self::NONE };
    /// Send broadcasts and be present.
    pub const WRITE: Self = Self { write_broadcast: true, write_presence: true, ..Self::NONE };
    /// Send and receive broadcasts.
    pub const BROADCAST: Self = Self { read_broadcast: true, write_broadcast: true, ..Self::NONE };
    /// Be present and see who is.
    pub const PRESENCE: Self = Self { read_presence: true, write_presence: true, ..Self::NONE };

    /// What either grants.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            read_broadcast: self.read_broadcast || other.read_broadcast,
            write_broadcast: self.write_broadcast || other.write_broadcast,
            read_presence: self.read_presence || other.read_presence,
            write_presence: self.write_presence || other.write_presence,
        }
    }

    fn read(text: &str) -> Result<Self, RuleError> {
        text.split(',').map(str::trim).try_fold(Self::NONE, |rights, word| {
            Ok(rights.or(match word {
                "read" => Self::READ,
                "write" => Self::WRITE,
                "broadcast" => Self::BROADCAST,
                "presence" => Self::PRESENCE,
                "read:broadcast" => Self { read_broadcast: true, ..Self::NONE },
                "read:presence" => Self { read_presence: true, ..Self::NONE },
                "write:broadcast" => Self { write_broadcast: true, ..Self::NONE },
                "write:presence" => Self { write_presence: true, ..Self::NONE },
                word => return Err(RuleError::UnknownRight { word: word.into() }),
            }))
        })
    }
}

/// Whether `text` is as `pattern` has it, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("room", "room", true),
            ("room", "room1", false),
            ("room:*", "room:", true),
            ("room:*", "rooms", false),
            ("*:a:*", "x:a:y", true),
            ("*:a:*", "x:b:y", false),
            ("a*a", "a", false),
            ("a*b*c", "abbc", true),
            ("\u{e9}*\u{e9}", "\u{e9}x\u{e9}", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_add_up_and_hold_for_their_role_and_user_only() {
        let policy = Policy::closed()
            .allow("room:*@authenticated=read".parse().unwrap())
            .allow("room:1=write:broadcast".parse().unwrap())
            .allow("user:{sub}".parse().unwrap());
        let claims =
            |role: &str, sub: &str| Claims { role: role.into(), sub: sub.into(), exp: None };
        let ana = claims("authenticated", "ana");
        assert_eq!(policy.rights("room:2", &ana), Rights::READ);
        let both = Rights { write_broadcast: true, ..Rights::READ };
        assert_eq!(policy.rights("room:1", &ana), both);
        assert_eq!(policy.rights("room:2", &Claims::anonymous()), Rights::NONE);
        assert_eq!(policy.rights("user:ana", &ana), Rights::ALL);
        assert_eq!(policy.rights("user:ben", &ana), Rights::NONE);
        assert_eq!(policy.rights("user:ben", &claims("authenticated", "*")), Rights::NONE);
        assert_eq!(policy.rights("user:", &Claims::anonymous()), Rights::NONE);
    }

    #[test]
    fn a_text_that_is_no_rule_says_what_to_write() {
        assert_eq!("@anon=read".parse::<Rule>(), Err(RuleError::NoTopic));
        let error = "room=readd".parse::<Rule>().unwrap_err().to_string();
        assert!(error.starts_with("`readd` is not a right; write read, write,"), "{error}");
    }
}
