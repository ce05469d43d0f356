//! What makes a scenario one, whether it was read or made by hand.

use super::steps::{Act, Fault, FaultKind};
use super::{Actor, Cast, Op, Scenario, ScenarioError, TopicSpec};

/// More of anything than this is no scenario.
const ACTORS_MAX: usize = 32;
const TOPICS_MAX: usize = 32;
pub(super) const STEPS_MAX: usize = 100_000;
/// How much all steps may send together, counted once for each application or channel that could
/// get it. It is less than a world takes at one instant.
const SENT_MAX: u64 = 500_000;

/// Words that no application may be called.
const RESERVED: [&str; 6] = ["database", "client", "manager", "topic", "set", "seed"];

impl Op {
    /// How much it sends at once.
    pub(super) fn sends(&self) -> u64 {
        match self {
            Self::Act(_, Act::Flood { count, .. })
            | Self::Fault(Fault::GarbageFlood { count, .. }) => (*count).into(),
            Self::Act(..) | Self::Data(_) | Self::Fault(_) => 1,
        }
    }

    fn fits(&self, cast: &Cast) -> bool {
        match self {
            Self::Act(who, act) => super::words::Word::fits(who, cast) && act.fits(cast),
            Self::Data(data) => data.fits(cast),
            Self::Fault(fault) => fault.fits(cast),
        }
    }
}

impl Cast {
    /// Whether there may be one more application of this name.
    pub(super) fn check_actor(before: &[Actor], name: &str) -> Result<(), String> {
        let taken = before.iter().any(|actor| actor.name == name);
        let is_fault = FaultKind::ALL.iter().any(|kind| kind.word() == name);
        if taken || is_fault || RESERVED.contains(&name) {
            return Err(format!("`{name}` means something else already"));
        }
        if before.len() >= ACTORS_MAX {
            return Err(format!("there are more than {ACTORS_MAX} applications"));
        }
        check_word(name)
    }

    /// Whether there may be one more topic like this.
    pub(super) fn check_topic(before: &[TopicSpec], spec: &TopicSpec) -> Result<(), String> {
        let taken = |other: &TopicSpec| other.name == spec.name || other.topic == spec.topic;
        if before.iter().any(taken) {
            return Err(format!("topic `{}` is there already", spec.name));
        }
        if before.len() >= TOPICS_MAX {
            return Err(format!("there are more than {TOPICS_MAX} topics"));
        }
        check_word(&spec.name)?;
        check_word(&spec.topic)
    }

    /// Whether a world takes so much.
    pub(super) fn check_sent(&self, sent: u64) -> Result<(), String> {
        let receivers = self.actors.len().max(self.topics.len()).max(1) as u64;
        let max = SENT_MAX / receivers;
        if sent > max {
            return Err(format!(
                "the steps send {sent} messages together, and with so many applications and topics \
                 {max} is the most that a world takes; let floods be smaller"
            ));
        }
        Ok(())
    }
}

/// Whether a name is one word of a line.
fn check_word(name: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('#') || name.contains(char::is_whitespace) {
        return Err(format!("{name:?} cannot be written as one word"));
    }
    Ok(())
}

impl Scenario {
    /// Checks a scenario that was made or changed by hand: its text can be read back, and whoever
    /// its steps name is there. What was read or drawn always is so.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Scenario, Seed};
    ///
    /// let mut scenario = Scenario::of_seed(Seed(7));
    /// assert_eq!(scenario.check(), Ok(()));
    /// scenario.cast.topics[0].topic = "realtime:two words".into();
    /// assert!(scenario.check().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When it could not be read back, with the line of its text.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let cast = &self.cast;
        let mut line = 1 + cast.settings.write(cast).len();
        let at = |line: usize| move |mistake: String| ScenarioError { line, mistake };
        if let Some(word) = cast.settings.misfit(cast) {
            return Err(at(line)(format!("setting `{word}` is out of its bounds")));
        }
        for (before, actor) in cast.actors.iter().enumerate() {
            line += 1;
            Cast::check_actor(&cast.actors[..before], &actor.name).map_err(at(line))?;
        }
        for (before, spec) in cast.topics.iter().enumerate() {
            line += 1;
            Cast::check_topic(&cast.topics[..before], spec).map_err(at(line))?;
        }
        // A line is left empty before the steps.
        line += 1;
        if self.steps.len() > STEPS_MAX {
            return Err(at(line)(format!("there are more than {STEPS_MAX} steps")));
        }
        let mut sent = 0;
        for step in &self.steps {
            line += 1;
            if !super::words::Word::fits(&step.after, cast) || !step.op.fits(cast) {
                let mistake = "the step names somebody who is not there, or is out of bounds";
                return Err(at(line)(mistake.into()));
            }
            sent += step.op.sends();
            cast.check_sent(sent).map_err(at(line))?;
        }
        Ok(())
    }
}
