//! Presence as it is told.

use super::*;

const CLEO: NodeId = NodeId(2);

fn all(members: &[(&str, u64)]) -> Vec<(String, Vec<u64>)> {
    members.iter().map(|(key, number)| ((*key).to_owned(), vec![*number])).collect()
}

fn seen(members: &[(&str, u64)]) -> Seen {
    Seen::Members(all(members))
}

fn joined(members: &[(&str, u64)]) -> ChannelTold {
    let diff = MemberDiff { joined: all(members), ..MemberDiff::default() };
    ChannelTold::Presence { synced: true, diff }
}

fn updated(members: &[(&str, u64)]) -> ChannelTold {
    let diff = MemberDiff { updated: all(members), ..MemberDiff::default() };
    ChannelTold::Presence { synced: false, diff }
}

fn left(members: &[(&str, u64)]) -> ChannelTold {
    let diff = MemberDiff { left: all(members), ..MemberDiff::default() };
    ChannelTold::Presence { synced: false, diff }
}

impl Bench {
    fn shows(&mut self, node: NodeId, seen: &Seen) {
        self.oracle.check_roster(node, ROOM, seen, self.now);
    }
}

#[test]
fn who_is_shown_and_was_not_told_to_be_there_is_found_and_the_other_way_round() {
    for (told, shown, rule) in [
        (joined(&[("ana", 1)]), seen(&[("ana", 1)]), ""),
        (joined(&[("ben", 2), ("ana", 1)]), seen(&[("ana", 1), ("ben", 2)]), ""),
        (joined(&[("ana", 1)]), seen(&[]), "G9"),
        (joined(&[("ana", 1)]), seen(&[("ana", 2)]), "G9"),
        (joined(&[("ana", 1)]), seen(&[("ana", 1), ("ben", 2)]), "G9"),
        (ChannelTold::Other, seen(&[("ana", 1)]), "G9"),
        (joined(&[("ana", 1)]), Seen::Untold, ""),
    ] {
        let mut bench = Bench::live(ANA);
        bench.tells_of(ANA, 1, told.clone());
        bench.shows(ANA, &shown);
        assert_eq!(bench.found(), rule, "{told:?} {shown:?}");
    }
}

#[test]
fn whoever_follows_what_is_told_knows_who_changed_and_who_went() {
    let mut bench = Bench::live(ANA);
    for (told, shown) in [
        (joined(&[("ana", 1), ("ben", 2)]), seen(&[("ana", 1), ("ben", 2)])),
        (updated(&[("ana", 3)]), seen(&[("ana", 3), ("ben", 2)])),
        (left(&[("ben", 2)]), seen(&[("ana", 3)])),
        (left(&[("ana", 3)]), seen(&[])),
    ] {
        bench.tells_of(ANA, 1, told);
        bench.shows(ANA, &shown);
        assert_eq!(bench.found(), "", "{shown:?}");
    }
}

#[test]
fn who_comes_and_is_there_or_changes_or_goes_and_is_not_there_is_found() {
    for (told, rule) in [
        (joined(&[("ben", 2)]), ""),
        (joined(&[("ana", 1)]), "G9"),
        (updated(&[("ana", 1)]), ""),
        (updated(&[("ben", 2)]), "G9"),
        (left(&[("ana", 1)]), ""),
        (left(&[("ana", 2)]), "G9"),
        (left(&[("ben", 2)]), "G9"),
    ] {
        let mut bench = Bench::live(ANA);
        bench.tells_of(ANA, 1, joined(&[("ana", 1)]));
        bench.tells_of(ANA, 1, told.clone());
        assert_eq!(bench.found(), rule, "{told:?}");
    }
}

#[test]
fn a_live_channel_that_was_not_told_to_be_up_to_date_is_found() {
    let cause = CauseKind::ChannelCrashed;
    let lost = ChannelTold::Errored { cause, retry_at: Some(Instant::EPOCH) };
    let stopped = ChannelTold::Stopped { cause };
    let unsynced = updated(&[]);
    for (node, told, rule) in [
        (ANA, vec![], "G9"),
        (ANA, vec![&unsynced], "G9"),
        (ANA, vec![&joined(&[])], ""),
        (ANA, vec![&joined(&[]), &unsynced, &stopped], ""),
        (ANA, vec![&joined(&[]), &lost, &unsynced], "G9"),
        (ANA, vec![&joined(&[]), &ChannelTold::Rejoining], "G9"),
        (ANA, vec![&lost, &joined(&[])], ""),
        (CLEO, vec![], "G9"),
        (CLEO, vec![&joined(&[])], ""),
        (CLEO, vec![&joined(&[]), &stopped, &unsynced], "G9"),
        (CLEO, vec![&joined(&[]), &lost], "G9"),
    ] {
        let mut bench = Bench::new();
        for told in &told {
            bench.tells_of(node, 1, (*told).clone());
        }
        bench.shows(node, &seen(&[]));
        assert_eq!(bench.found(), rule, "{node} {told:?}");
    }
}

#[test]
fn what_was_told_of_an_older_channel_or_to_a_process_that_died_is_nobodys_view() {
    let mut bench = Bench::live(ANA);
    bench.tells_of(ANA, 1, joined(&[("ana", 1)]));
    bench.tells_of(ANA, 2, joined(&[("ben", 2)]));
    bench.shows(ANA, &seen(&[("ben", 2)]));
    bench.tells_of(ANA, 2, ChannelTold::Closed);
    bench.shows(ANA, &seen(&[("ana", 1)]));
    assert_eq!(bench.found(), "");
    bench.oracle.on_restarted(ANA);
    bench.tells_of(ANA, 1, joined(&[("ana", 1)]));
    bench.shows(ANA, &seen(&[("ana", 1)]));
    assert_eq!(bench.found(), "");
}
