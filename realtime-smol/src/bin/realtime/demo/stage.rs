//! What happens on stage: it is shown as it happens and checked against what was expected.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use realtime_proto::Payload;
use realtime_proto::manager::{ChannelStatus, Entity, Kind};
use realtime_proto::supabase::{ChangeKind, SystemStatus};
use serde_json::{Value, json};
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt;

use super::Matches;
use super::viewer::{Seen, Viewer};
use crate::arguments::ServerArguments;
use crate::output::{Failure, Output};
use crate::session::describe;
use crate::told::{describe_broadcast, describe_change, value};

/// How long one expectation may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// Something a viewer should see.
pub(crate) struct Expectation {
    viewer: &'static str,
    what: String,
    matches: Matches,
}

impl Expectation {
    pub(crate) fn status(
        viewer: &'static str,
        kind: Kind,
        is: impl Fn(&ChannelStatus) -> bool + 'static,
    ) -> Self {
        let matches = move |seen: &Seen| matches!(seen, Seen::Status(k, s) if *k == kind && is(s));
        Self {
            viewer,
            what: format!("another status of the {kind} channel"),
            matches: Box::new(matches),
        }
    }

    pub(crate) fn change(viewer: &'static str, kind: ChangeKind, row: &Payload) -> Self {
        let wanted = value(row);
        let matches = move |seen: &Seen| {
            let Seen::Change(change) = seen else { return false };
            let row = change.record().or_else(|| change.old_record());
            change.kind() == kind && row.is_some_and(|row| value(&row) == wanted)
        };
        Self { viewer, what: format!("the {kind} of {row:?}"), matches: Box::new(matches) }
    }

    pub(crate) fn broadcast(viewer: &'static str, event: &'static str, payload: &str) -> Self {
        let wanted: Value = payload.parse().unwrap_or_default();
        let what = format!("the broadcast {event} {payload}");
        let matches = move |seen: &Seen| {
            let Seen::Broadcast(broadcast) = seen else { return false };
            broadcast.event == event && value(&broadcast.payload) == wanted
        };
        Self { viewer, what, matches: Box::new(matches) }
    }

    pub(crate) fn viewing(viewer: &'static str, people: &BTreeSet<&'static str>) -> Self {
        let wanted: BTreeSet<String> = people.iter().map(|name| (*name).to_owned()).collect();
        let names: Vec<&str> = people.iter().copied().collect();
        let what = format!("exactly {} on the contact", names.join(", "));
        let matches =
            move |seen: &Seen| matches!(seen, Seen::Viewing { now, .. } if *now == wanted);
        Self { viewer, what, matches: Box::new(matches) }
    }
}

/// The viewers, and what they see.
pub(crate) struct Stage<'a> {
    output: &'a Output,
    viewers: Vec<Viewer>,
    sender: Sender<(&'static str, Seen)>,
    seen: Receiver<(&'static str, Seen)>,
    /// Whom each viewer sees at the moment.
    viewing: BTreeMap<&'static str, BTreeSet<String>>,
    /// How the channels of each viewer are at the moment.
    statuses: BTreeMap<(&'static str, Kind), ChannelStatus>,
    began: Instant,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        let (sender, seen) = smol::channel::bounded(1_024);
        Self {
            output,
            viewers: Vec::new(),
            sender,
            seen,
            viewing: BTreeMap::new(),
            statuses: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// Announces what comes next.
    pub(crate) fn step(&self, title: &str) -> Result<(), Failure> {
        self.output.line(&json!({ "step": title }), &format_args!("\n{title}"))
    }

    pub(crate) async fn enter(
        &mut self,
        name: &'static str,
        at: &ServerArguments,
        contact: &Entity,
    ) -> Result<(), Failure> {
        let viewer = Viewer::enter(name, at, contact, &self.sender).await?;
        self.show(name, &json!({ "event": "connected" }), "connected")?;
        self.viewers.push(viewer);
        Ok(())
    }

    /// Has a viewer leave every channel and go.
    pub(crate) async fn leave(&mut self, name: &'static str) -> Result<(), Failure> {
        let Some(at) = self.viewers.iter().position(|viewer| viewer.name == name) else {
            return Err(Failure::new(format!("{name} is not on stage")));
        };
        let viewer = self.viewers.remove(at);
        self.viewing.remove(name);
        viewer.session.close().await?;
        self.show(name, &json!({ "event": "gone" }), "gone")
    }

    pub(crate) async fn broadcast(
        &self,
        name: &'static str,
        contact: &Entity,
        event: &str,
        payload: &str,
    ) -> Result<(), Failure> {
        self.show(
            name,
            &json!({ "event": "sends", "name": event }),
            &format!("sends {event} {payload}"),
        )?;
        let payload = Payload::from_json(payload)?;
        for viewer in self.viewers.iter().filter(|viewer| viewer.name == name) {
            viewer.session.manager.broadcast(contact, event, payload.clone()).await?;
        }
        Ok(())
    }

    /// Shows what happens until every expectation is met, by what comes or by how things are.
    pub(crate) async fn expect(
        &mut self,
        expectations: impl IntoIterator<Item = Expectation>,
    ) -> Result<(), Failure> {
        let mut open: Vec<Expectation> =
            expectations.into_iter().filter(|expectation| !self.is_met(expectation)).collect();
        while !open.is_empty() {
            let next = async { self.seen.recv().await.ok() };
            let too_late = async {
                smol::Timer::after(PATIENCE).await;
                None
            };
            let Some((name, seen)) = next.or(too_late).await else {
                let missing: Vec<String> =
                    open.iter().map(|e| format!("{} did not see {}", e.viewer, e.what)).collect();
                let patience = PATIENCE.as_secs();
                return Err(Failure::new(format!("{} within {patience} s", missing.join("; "))));
            };
            self.show_seen(name, &seen)?;
            let met = |e: &Expectation| e.viewer == name && (e.matches)(&seen);
            if let Some(at) = open.iter().position(met) {
                open.remove(at);
            }
        }
        Ok(())
    }

    /// Whether an expectation is met by how things are.
    fn is_met(&self, expectation: &Expectation) -> bool {
        let name = expectation.viewer;
        let viewing = self.viewing.get(name).map(|now| Seen::Viewing {
            joined: Vec::new(),
            left: Vec::new(),
            now: now.clone(),
        });
        let statuses = [Kind::Subscription, Kind::Presence].map(|kind| {
            self.statuses.get(&(name, kind)).map(|status| Seen::Status(kind, status.clone()))
        });
        viewing.iter().chain(statuses.iter().flatten()).any(|state| (expectation.matches)(state))
    }

    /// Shows whom each viewer sees.
    pub(crate) fn show_viewing(&self) -> Result<(), Failure> {
        for (name, people) in self.viewing.clone() {
            let names: Vec<String> = people.into_iter().collect();
            let object = json!({ "event": "viewing", "people": names });
            self.show(name, &object, &format!("sees {}", names.join(", ")))?;
        }
        Ok(())
    }

    /// Shows the channels of every viewer, and what their connections did.
    pub(crate) async fn show_statistics(&self) -> Result<(), Failure> {
        let head = format!(
            "{:<8} {:<13} {:<9} {:>9} {:>9} {:>8}",
            "viewer", "channel", "status", "listeners", "delivered", "connects"
        );
        self.output.note(&head)?;
        for viewer in &self.viewers {
            let manager = &viewer.session.manager;
            let connects = manager.stats().await?.connects;
            for channel in manager.active_channels().await? {
                let (kind, status) = (channel.key.kind, channel.status.as_str());
                let (listeners, delivered) = (channel.listeners, channel.delivered);
                let object = json!({
                    "viewer": viewer.name,
                    "topic": channel.key.topic(),
                    "status": status,
                    "listeners": listeners,
                    "delivered": delivered,
                    "connects": connects,
                });
                let name = viewer.name;
                let text = format!(
                    "{name:<8} {kind:<13} {status:<9} {listeners:>9} {delivered:>9} {connects:>8}"
                );
                self.output.line(&object, &text)?;
            }
        }
        Ok(())
    }

    /// Has everyone leave, and says that all is well.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        for viewer in core::mem::take(&mut self.viewers) {
            viewer.session.close().await?;
        }
        let took = self.began.elapsed();
        let object = json!({ "ok": true, "took_ms": took.as_millis() as u64 });
        let text = format!("\nEverything arrived, in {:.1} s.", took.as_secs_f64());
        self.output.line(&object, &text)
    }

    fn show_seen(&mut self, name: &'static str, seen: &Seen) -> Result<(), Failure> {
        let (object, text) = match seen {
            Seen::Status(kind, status) => {
                self.statuses.insert((name, *kind), status.clone());
                let (mut object, text) = describe(status);
                object["channel"] = json!(kind.as_str());
                (object, format!("{kind:<13} {text}"))
            }
            Seen::Change(change) => describe_change(change),
            Seen::Broadcast(broadcast) => describe_broadcast(broadcast),
            Seen::Viewing { joined, left, now } => {
                self.viewing.insert(name, now.clone());
                let came = joined.iter().map(|name| format!("{name} came"));
                let went = left.iter().map(|name| format!("{name} went"));
                let text = came.chain(went).collect::<Vec<_>>().join(", ");
                if text.is_empty() {
                    return Ok(());
                }
                (json!({ "event": "presence", "joined": joined, "left": left }), text)
            }
            // Elsewhere there may be no such table; the demo does not need it there.
            Seen::System(system) if system.status == SystemStatus::Error => (
                json!({ "event": "system", "message": system.message }),
                format!("the server says: {}", system.message),
            ),
            Seen::System(_) => return Ok(()),
            Seen::Missed(missed) => {
                return Err(Failure::new(format!("{name} missed {missed} events")));
            }
        };
        self.show(name, &object, &text)
    }

    fn show(&self, name: &str, object: &Value, text: &str) -> Result<(), Failure> {
        let mut object = object.clone();
        object["viewer"] = json!(name);
        self.output.line(&object, &format_args!("{name:<8} {text}"))
    }
}
