//! Random histories of a channel with presence.

use std::collections::BTreeMap;

use realtime_proto::wire::Vsn;
use realtime_tests::dice::Dice;
use serde_json::Value;

/// Keys of the kinds that have tripped clients, and plain ones.
const KEYS: [&str; 19] = [
    "ana",
    "ben",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "metas",
    "",
    " ",
    "7",
    "10",
    "0",
    "-1",
    "01",
    "1.5",
    "4294967294",
    "4294967295",
    "ключ \u{1F600}\u{2028}\"\\\n",
    "\u{FFFD}e\u{301}",
];

/// One thing that happens to a channel.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A message, the join it names, and its payload.
    Message(Kind, JoinRef, String),
    /// The join is accepted.
    Ok,
    /// The server's channel crashes.
    Crash,
    /// The client asks to join again after a crash.
    Rejoin,
    /// The connection is lost, and the client asks to join on the next one.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    State,
    Diff,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum JoinRef {
    Current,
    Old,
    None,
}

impl Kind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Diff => "diff",
        }
    }
}

/// The history as presence.mjs reads it.
pub(super) fn question(vsn: Vsn, forget: bool, steps: &[Step]) -> String {
    let steps: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Message(kind, join_ref, payload) => {
                let join_ref = match join_ref {
                    JoinRef::Current => r#""current""#,
                    JoinRef::Old => r#""old""#,
                    JoinRef::None => "null",
                };
                format!(r#"["{}",{join_ref},{payload}]"#, kind.word())
            }
            Step::Ok => r#"["ok"]"#.into(),
            Step::Crash => r#"["crash"]"#.into(),
            Step::Rejoin => r#"["rejoin"]"#.into(),
            Step::Cut => r#"["cut"]"#.into(),
        })
        .collect();
    format!(r#"{{"vsn":"{vsn}","forget":{forget},"steps":[{}]}}"#, steps.join(","))
}

/// The history of a seed, and the version it is told in.
pub(super) fn history(seed: u64) -> (Vsn, Vec<Step>) {
    let mut dice = Dice::new(seed);
    let vsn = if dice.one_in(5) { Vsn::V1 } else { Vsn::V2 };
    let keys = (0..1 + dice.below(4)).map(|_| *dice.pick(&KEYS)).collect();
    let mut author = Author { dice, keys, here: BTreeMap::new(), refs: 0 };
    let mut steps = Vec::new();
    for _ in 0..4 + author.dice.below(10) {
        let step = author.step(vsn);
        // Npm hears a channel that crashed, which is a test of its own.
        let crashed = matches!(step, Step::Crash);
        steps.push(step);
        if crashed {
            steps.push(Step::Rejoin);
        }
    }
    (vsn, steps)
}

/// A server's view of who is there, and a history that it tells now well, now badly.
struct Author {
    dice: Dice,
    keys: Vec<&'static str>,
    /// The refs of each member's devices, oldest first.
    here: BTreeMap<&'static str, Vec<u32>>,
    refs: u32,
}

/// Metas by key, in the order of a message; a key can come twice.
#[derive(Default)]
struct Entries(Vec<(&'static str, Vec<String>)>);

impl Entries {
    fn of(&mut self, key: &'static str) -> &mut Vec<String> {
        let at = self.0.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
            self.0.push((key, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// As an object, whose entries have something beside the metas now and then.
    fn object(&self, dice: &mut Dice) -> String {
        let entry = |(key, metas): &(&str, Vec<String>)| {
            let extra = match dice.below(12) {
                0 => r#","user":{"name":"Ana"}"#,
                1 => r#","user":null,"__proto__":1"#,
                _ => "",
            };
            format!(r#"{}:{{"metas":[{}]{extra}}}"#, Value::from(*key), metas.join(","))
        };
        format!("{{{}}}", self.0.iter().map(entry).collect::<Vec<_>>().join(","))
    }
}

fn meta(phx_ref: u32, previous: Option<u32>) -> String {
    match previous {
        Some(previous) => format!(r#"{{"phx_ref":"{phx_ref}","phx_ref_prev":"{previous}","n":2}}"#),
        None => format!(r#"{{"n":1,"phx_ref":"{phx_ref}"}}"#),
    }
}

impl Author {
    fn step(&mut self, vsn: Vsn) -> Step {
        match self.dice.below(16) {
            0 => Step::Crash,
            1 => Step::Cut,
            2 | 3 => Step::Ok,
            4 | 5 => Step::Message(Kind::State, self.join_ref(vsn), self.state()),
            6 => {
                let entries = self.anything();
                Step::Message(Kind::State, self.join_ref(vsn), entries.object(&mut self.dice))
            }
            7 | 8 => {
                let (joins, leaves) = (self.anything(), self.anything());
                Step::Message(Kind::Diff, self.join_ref(vsn), self.diff(&joins, &leaves))
            }
            _ => Step::Message(Kind::Diff, self.join_ref(vsn), self.change()),
        }
    }

    /// Diffs are broadcasts that name no join on most servers.
    fn join_ref(&mut self, vsn: Vsn) -> JoinRef {
        match self.dice.below(10) {
            _ if vsn == Vsn::V1 => JoinRef::None,
            0 => JoinRef::Old,
            1..5 => JoinRef::Current,
            _ => JoinRef::None,
        }
    }

    fn diff(&mut self, joins: &Entries, leaves: &Entries) -> String {
        let [joins, leaves] = [joins, leaves].map(|entries| entries.object(&mut self.dice));
        format!(r#"{{"joins":{joins},"leaves":{leaves}}}"#)
    }

    /// A snapshot of who is there.
    fn state(&mut self) -> String {
        let metas = |refs: &Vec<u32>| refs.iter().map(|phx_ref| meta(*phx_ref, None)).collect();
        let mut entries: Vec<_> = self.here.iter().map(|(key, refs)| (*key, metas(refs))).collect();
        if self.dice.one_in(2) {
            entries.reverse();
        }
        Entries(entries).object(&mut self.dice)
    }

    /// What a server tells when somebody comes, changes or goes: now and then of several at once,
    /// and now and then a message that the client never gets.
    fn change(&mut self) -> String {
        let (mut joins, mut leaves) = (Entries::default(), Entries::default());
        loop {
            self.happen(&mut joins, &mut leaves);
            if !self.dice.one_in(3) {
                break;
            }
        }
        if self.dice.one_in(8) {
            self.happen(&mut Entries::default(), &mut Entries::default());
        }
        self.diff(&joins, &leaves)
    }

    fn happen(&mut self, joins: &mut Entries, leaves: &mut Entries) {
        let key = *self.dice.pick(&self.keys);
        let refs = self.here.entry(key).or_default();
        self.refs += 1;
        let new = self.refs;
        if refs.is_empty() || self.dice.one_in(3) {
            refs.push(new);
            joins.of(key).push(meta(new, None));
            return;
        }
        let old = refs.remove(self.dice.below(refs.len()));
        leaves.of(key).push(meta(old, None));
        if self.dice.one_in(2) {
            refs.push(new);
            joins.of(key).push(meta(new, Some(old)));
        } else if refs.is_empty() {
            self.here.remove(key);
        }
    }

    /// Entries that no server would send: known and unknown refs, repeated ones, no metas, a key
    /// twice.
    fn anything(&mut self) -> Entries {
        let mut entries = Entries::default();
        for _ in 0..self.dice.below(4) {
            let key = *self.dice.pick(&self.keys);
            let refs: Vec<usize> = (0..self.dice.below(4)).map(|_| self.dice.below(8)).collect();
            let previous = self.dice.one_in(4).then_some(0);
            entries.0.push((key, refs.iter().map(|n| meta(*n as u32, previous)).collect()));
        }
        entries
    }
}
