//! Every order of events in small worlds, as deep as seconds allow.

use realtime_sim::{Beginning, Exploration};

#[test]
fn whatever_two_things_happen_to_a_small_world_it_heals() {
    for begin in Beginning::ALL {
        let explored = Exploration::small(begin).with_depth(2).with_faults_max(2).run(|_| {});
        assert_eq!(explored.failure, None, "beginning {}", begin.word());
        assert_eq!(explored.depth, 2);
    }
}

#[test]
fn whatever_order_a_send_a_cut_and_a_rejoin_meet_in_a_small_world_heals() {
    let small = Exploration::small(Beginning::Live).with_depth(6).with_faults_max(1);
    let few = small.with_choices("ana send room, ana rejoin room, cut ana");
    let explored = few.expect("three steps").run(|_| {});
    assert_eq!(explored.failure, None);
}
