//! Tables of arrivals, launches and commands, and what the shell has to do.

use super::*;
use crate::QueueClient;

fn server() -> ServerId {
    ServerId::new("a").expect("valid")
}

fn at(seconds: u64) -> Uptime {
    Uptime::new(Duration::from_secs(seconds))
}

fn launch(number: u64) -> Incarnation {
    Incarnation::new(number)
}

const WORK: Arrival = Arrival {
    works: true,
    concurrency: None,
    queue: 2,
    priority: 3,
    ttl: None,
    client: QueueClient::Local,
    lost_with: None,
};
const LIGHT: Arrival = Arrival { works: false, ..WORK };

fn waits((arrived, actions): (Arrived, Vec<GateAction>)) -> (Ticket, Vec<GateAction>) {
    match arrived {
        Arrived::Waits(ticket) => (ticket, actions),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn demand_is_told_with_the_first_waiter_and_taken_back_with_the_last() {
    let mut gates = Gates::default();
    let (first, actions) = waits(gates.arrive(&server(), WORK, at(1)));
    assert_eq!(actions, [GateAction::Want { server: server(), oldest: at(1), priority: 3 }]);
    let (second, actions) = waits(gates.arrive(&server(), WORK, at(2)));
    assert_eq!(actions, []);
    assert_eq!(gates.arrive(&server(), WORK, at(3)), (Arrived::QueueFull, vec![]));
    let again = GateAction::Want { server: server(), oldest: at(2), priority: 3 };
    assert_eq!(gates.leave(&server(), first, at(3)), [again]);
    assert_eq!(gates.leave(&server(), second, at(3)), [GateAction::Unwant(server())]);
}

#[test]
fn a_launch_that_is_released_before_its_gate_opens_gets_no_request_until_it_is_reopened() {
    let mut gates = Gates::default();
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(1)));
    assert_eq!(gates.release(&server(), launch(1), Duration::ZERO, at(2)), Ok(vec![]));
    assert_eq!(gates.open(&server(), launch(1), at(3)), []);
    let actions = gates.reopen(&server(), launch(1), at(4));
    assert!(actions.contains(&GateAction::Admit(ticket, launch(1))), "{actions:?}");
    // The release is taken back before it would have opened.
    assert_eq!(gates.release(&server(), launch(2), Duration::ZERO, at(5)), Ok(vec![]));
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(6)));
    assert!(!gates.reopen(&server(), launch(2), at(7)).contains(&GateAction::Admit(ticket, launch(2))));
    assert!(gates.open(&server(), launch(2), at(8)).contains(&GateAction::Admit(ticket, launch(2))));
}

#[test]
fn a_gate_that_opens_lets_as_many_work_as_there_are_slots_and_one() {
    let mut gates = Gates::default();
    let arrival = Arrival { queue: 9, ..WORK };
    let tickets: Vec<Ticket> = (0..4).map(|_| waits(gates.arrive(&server(), arrival, at(1))).0).collect();
    let actions = gates.open(&server(), launch(1), at(1));
    let admitted = |ticket: usize| GateAction::Admit(tickets[ticket], launch(1));
    assert_eq!(
        actions,
        [GateAction::UseBegan(server(), launch(1)), admitted(0), admitted(1)],
        "one slot and one until the number is known"
    );
    let slots = NonZeroU32::new(2).expect("not zero");
    assert_eq!(gates.set_slots(&server(), launch(1), slots, at(1)), [admitted(2)]);
    let (light, _) = gates.arrive(&server(), LIGHT, at(2));
    assert!(matches!(light, Arrived::Admitted(..)), "light requests pass the queue");
    let last = gates.finish(&server(), launch(1), AdmittedAs::Work, at(3));
    assert_eq!(last, [admitted(3), GateAction::Unwant(server())]);
    assert_eq!(gates.standing(&server()), GateStanding { in_flight: 4, waiting: 0 });
}

#[test]
fn a_server_with_a_request_in_flight_is_not_released_at_once() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    let (arrived, _) = gates.arrive(&server(), WORK, at(1));
    assert!(matches!(arrived, Arrived::Admitted(..)));
    assert_eq!(gates.release(&server(), launch(1), Duration::ZERO, at(1)), Err(1));
    assert!(
        matches!(gates.arrive(&server(), WORK, at(1)).0, Arrived::Admitted(..)),
        "the refused release left the gate open"
    );
    assert_eq!(gates.release(&server(), launch(1), Duration::from_secs(5), at(2)), Ok(vec![]));
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(2)));
    assert_eq!(gates.finish(&server(), launch(1), AdmittedAs::Work, at(3)), []);
    let released = GateAction::Released { server: server(), incarnation: launch(1), left: 0 };
    assert_eq!(gates.finish(&server(), launch(1), AdmittedAs::Work, at(4)), [released]);
    assert_eq!(gates.reopen(&server(), launch(1), at(1))[0], GateAction::Admit(ticket, launch(1)));
}

#[test]
fn a_drain_ends_at_its_time_with_what_is_left() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    gates.arrive(&server(), WORK, at(1));
    assert_eq!(gates.release(&server(), launch(1), Duration::from_secs(5), at(2)), Ok(vec![]));
    assert_eq!(gates.next_deadline(), Some(at(7)));
    assert_eq!(gates.on_deadline(at(7)), [GateAction::Released { server: server(), incarnation: launch(1), left: 1 }]);
    assert_eq!(gates.next_deadline(), None);
}

#[test]
fn an_unknown_launch_is_released_at_once() {
    let mut gates = Gates::default();
    let released = GateAction::Released { server: server(), incarnation: launch(1), left: 0 };
    assert_eq!(gates.release(&server(), launch(1), Duration::ZERO, at(1)), Ok(vec![]));
    assert_eq!(gates.release(&server(), launch(1), Duration::from_secs(1), at(1)), Ok(vec![released]));
}

#[test]
fn requests_of_an_earlier_launch_take_no_place_of_the_next() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    gates.arrive(&server(), WORK, at(1));
    gates.close(&server(), launch(1), at(1));
    gates.open(&server(), launch(2), at(1));
    assert_eq!(gates.standing(&server()).in_flight, 0);
    gates.arrive(&server(), WORK, at(2));
    assert_eq!(gates.finish(&server(), launch(1), AdmittedAs::Work, at(3)), []);
    assert_eq!(gates.standing(&server()).in_flight, 1);
}

#[test]
fn the_end_of_a_use_is_told_once_it_has_lasted() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    assert_eq!(gates.arrive(&server(), WORK, at(1)).1, [GateAction::UseBegan(server(), launch(1))]);
    gates.finish(&server(), launch(1), AdmittedAs::Work, at(2));
    assert_eq!(gates.arrive(&server(), WORK, at(3)).1, [], "no second event within the hysteresis");
    gates.finish(&server(), launch(1), AdmittedAs::Work, at(4));
    assert_eq!(gates.on_deadline(at(13)), []);
    assert_eq!(gates.on_deadline(at(14)), [GateAction::UseEnded(server(), launch(1), at(4))]);
}

#[test]
fn a_paused_launch_gets_nothing_until_it_answers_again() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    gates.pause(&server(), launch(1), at(1));
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(1)));
    assert!(gates.open(&server(), launch(1), at(1)).contains(&GateAction::Admit(ticket, launch(1))));
}

#[test]
fn the_demand_is_told_again_at_most_once_a_second_when_its_oldest_waiter_changes() {
    let mut gates = Gates::default();
    let want = |since| GateAction::Want { server: server(), oldest: at(since), priority: 3 };
    let arrival = Arrival { queue: 9, ..WORK };
    let (first, actions) = waits(gates.arrive(&server(), arrival, at(10)));
    assert_eq!(actions, [want(10)]);
    let (second, _) = waits(gates.arrive(&server(), arrival, at(20)));
    let (third, _) = waits(gates.arrive(&server(), arrival, at(30)));
    assert_eq!(gates.leave(&server(), first, at(40)), [want(20)]);
    assert_eq!(gates.leave(&server(), second, at(40)), [], "told in this second");
    assert_eq!(gates.next_deadline(), Some(at(41)));
    assert_eq!(gates.on_deadline(at(41)), [want(30)]);
    assert_eq!(gates.next_deadline(), None);
    assert_eq!(gates.leave(&server(), third, at(41)), [GateAction::Unwant(server())]);
}

#[test]
fn a_server_with_a_short_ttl_counts_as_used_no_longer_than_that() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    gates.arrive(&server(), Arrival { ttl: Some(Duration::from_secs(3)), ..WORK }, at(1));
    gates.finish(&server(), launch(1), AdmittedAs::Work, at(2));
    assert_eq!(gates.next_deadline(), Some(at(5)));
    assert_eq!(gates.on_deadline(at(5)), [GateAction::UseEnded(server(), launch(1), at(2))]);
}

#[test]
fn who_waits_long_for_a_slot_is_demand_and_who_waits_for_a_moment_is_not() {
    let mut gates = Gates::default();
    let one = Arrival { concurrency: NonZeroU32::new(1), ..WORK };
    gates.open(&server(), launch(1), at(1));
    gates.arrive(&server(), one, at(1));
    let (_, actions) = waits(gates.arrive(&server(), one, at(2)));
    assert_eq!((actions, gates.next_deadline()), (vec![], Some(at(3))));
    let want = GateAction::Want { server: server(), oldest: at(2), priority: 3 };
    assert_eq!(gates.on_deadline(at(3)), [want]);
    assert_eq!(gates.next_deadline(), None);
    let (_, actions) = waits(gates.arrive(&server(), one, at(4)));
    assert_eq!(actions, [], "it is not the oldest");
    let want = GateAction::Want { server: server(), oldest: at(4), priority: 3 };
    assert!(gates.finish(&server(), launch(1), AdmittedAs::Work, at(4)).contains(&want));
    let last = gates.finish(&server(), launch(1), AdmittedAs::Work, at(5));
    assert_eq!(last.last(), Some(&GateAction::Unwant(server())));
}

#[test]
fn who_waits_for_a_slot_is_demand_at_once_where_others_are_not_to_wait_at_all() {
    let mut gates = Gates::new(Duration::ZERO);
    let one = Arrival { concurrency: NonZeroU32::new(1), ..WORK };
    gates.open(&server(), launch(1), at(1));
    gates.arrive(&server(), one, at(1));
    let want = GateAction::Want { server: server(), oldest: at(2), priority: 3 };
    assert_eq!(waits(gates.arrive(&server(), one, at(2))).1, [want]);
}

#[test]
fn who_is_dismissed_is_demand_no_more() {
    let mut gates = Gates::default();
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(1)));
    assert_eq!(gates.dismiss(&server(), at(2)), (vec![ticket], vec![GateAction::Unwant(server())]));
    assert_eq!(gates.dismiss(&server(), at(2)), (vec![], vec![]));
}

#[test]
fn a_launch_that_is_doubted_is_looked_at_once_and_takes_nothing_before() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    assert_eq!(gates.doubt(&server(), launch(1), at(1)), [GateAction::Look(server(), launch(1))]);
    assert_eq!(gates.doubt(&server(), launch(1), at(1)), [], "the look is under way");
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(1)));
    assert!(gates.resume(&server(), launch(1), at(2)).contains(&GateAction::Admit(ticket, launch(1))));
}

#[test]
fn a_decision_of_the_supervisor_has_it_told_again_who_waits() {
    let mut gates = Gates::default();
    assert_eq!(gates.tell_again(&server(), at(1)), []);
    let want = GateAction::Want { server: server(), oldest: at(1), priority: 3 };
    let (_, told) = waits(gates.arrive(&server(), WORK, at(1)));
    assert_eq!((told, gates.tell_again(&server(), at(1))), (vec![want.clone()], vec![want]));
}

#[test]
fn a_paused_launch_that_answers_again_takes_requests_and_another_one_does_not() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1), at(1));
    gates.pause(&server(), launch(1), at(1));
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(1)));
    assert_eq!(gates.resume(&server(), launch(2), at(2)), []);
    assert!(gates.resume(&server(), launch(1), at(2)).contains(&GateAction::Admit(ticket, launch(1))));
    assert_eq!(gates.resume(&server(), launch(1), at(2)), [], "it is open");
    gates.close(&server(), launch(1), at(3));
    gates.resume(&server(), launch(1), at(3));
    assert!(!gates.is_open(&server()), "it is over");
}

#[test]
fn the_turn_of_a_request_is_expected_by_the_place_and_the_work_of_earlier_ones() {
    let mut gates = Gates::default();
    let two = Arrival { concurrency: NonZeroU32::new(2), queue: 9, ..WORK };
    (0..3).for_each(|_| drop(gates.arrive(&server(), two, at(1))));
    assert_eq!(gates.expected_turn(&server()), None, "nothing is known");
    gates.note_work(&server(), Duration::from_secs(10));
    assert_eq!(gates.expected_turn(&server()), Some(Duration::from_secs(15)));
}

#[test]
fn who_waits_for_a_slot_of_a_launch_that_ends_wants_the_next_one() {
    let mut gates = Gates::default();
    let one = Arrival { concurrency: NonZeroU32::new(1), ..WORK };
    gates.open(&server(), launch(1), at(1));
    gates.arrive(&server(), one, at(1));
    let (_, actions) = waits(gates.arrive(&server(), one, at(2)));
    assert_eq!(actions, []);
    let want = GateAction::Want { server: server(), oldest: at(2), priority: 3 };
    assert_eq!(gates.close(&server(), launch(1), at(3)), [want]);
}

#[test]
fn clients_take_turns_and_each_is_served_in_its_order() {
    let mut gates = Gates::default();
    let from = |last: u8| Arrival {
        queue: 9,
        concurrency: NonZeroU32::new(1),
        client: QueueClient::Address([127, 0, 0, last].into()),
        ..WORK
    };
    let mut ask = |last| waits(gates.arrive(&server(), from(last), at(1))).0;
    let [a1, a2, a3, b1, c1] = [ask(1), ask(1), ask(1), ask(2), ask(3)];
    let (light, _) = waits(gates.arrive(&server(), Arrival { works: false, ..from(1) }, at(1)));
    let admitted = |actions: Vec<GateAction>| -> Vec<Ticket> {
        let ticket = |action| if let GateAction::Admit(ticket, _) = action { Some(ticket) } else { None };
        actions.into_iter().filter_map(ticket).collect()
    };
    assert_eq!(admitted(gates.open(&server(), launch(1), at(2))), [light, a1]);
    for expected in [b1, c1, a2, a3] {
        assert_eq!(admitted(gates.finish(&server(), launch(1), AdmittedAs::Work, at(3))), [expected]);
    }
}

#[test]
fn requests_that_a_crash_has_lost_go_to_the_next_launch_one_at_a_time() {
    let mut gates = Gates::default();
    let lost = Arrival { lost_with: Some(launch(1)), ..WORK };
    gates.open(&server(), launch(1), at(1));
    let tickets: Vec<Ticket> = (0..3).map(|_| waits(gates.arrive(&server(), lost, at(1))).0).collect();
    gates.close(&server(), launch(1), at(2));
    let admit = |ticket: usize| GateAction::Admit(tickets[ticket], launch(2));
    let actions = gates.open(&server(), launch(2), at(3));
    assert_eq!(actions.iter().filter(|action| matches!(action, GateAction::Admit(..))).count(), 1);
    assert!(actions.contains(&admit(0)), "{actions:?}");
    assert!(matches!(gates.arrive(&server(), WORK, at(3)).0, Arrived::Admitted(..)), "the others go on");
    gates.finish(&server(), launch(2), AdmittedAs::Work, at(3));
    assert_eq!(gates.answer_began(&server(), launch(2), at(4)), [admit(1)]);
    let last = gates.finish(&server(), launch(2), AdmittedAs::Replay, at(5));
    assert_eq!(last, [admit(2), GateAction::Unwant(server())]);
}
