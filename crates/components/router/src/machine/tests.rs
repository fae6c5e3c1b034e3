//! Tables of arrivals, launches and commands, and what the shell has to do.

use super::*;

fn server() -> ServerId {
    ServerId::new("a").expect("valid")
}

fn at(seconds: u64) -> Uptime {
    Uptime::new(Duration::from_secs(seconds))
}

fn launch(number: u64) -> Incarnation {
    Incarnation::new(number)
}

const WORK: Arrival = Arrival { works: true, concurrency: None, queue: 2, priority: 3 };
const LIGHT: Arrival = Arrival { works: false, ..WORK };

fn waits((arrived, actions): (Arrived, Vec<Action>)) -> (Ticket, Vec<Action>) {
    match arrived {
        Arrived::Waits(ticket) => (ticket, actions),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn demand_is_told_with_the_first_waiter_and_taken_back_with_the_last() {
    let mut gates = Gates::default();
    let (first, actions) = waits(gates.arrive(&server(), WORK, at(1)));
    assert_eq!(actions, [Action::Want { server: server(), oldest: at(1), priority: 3 }]);
    let (second, actions) = waits(gates.arrive(&server(), WORK, at(2)));
    assert_eq!(actions, []);
    assert_eq!(gates.arrive(&server(), WORK, at(3)), (Arrived::QueueFull, vec![]));
    assert_eq!(gates.leave(&server(), first), []);
    assert_eq!(gates.leave(&server(), second), [Action::Unwant(server())]);
}

#[test]
fn a_gate_that_opens_lets_as_many_work_as_there_are_slots_and_one() {
    let mut gates = Gates::default();
    let arrival = Arrival { queue: 9, ..WORK };
    let tickets: Vec<Ticket> = (0..4).map(|_| waits(gates.arrive(&server(), arrival, at(1))).0).collect();
    let actions = gates.open(&server(), launch(1));
    let admitted = |ticket: usize| Action::Admit(tickets[ticket], launch(1));
    assert_eq!(
        actions,
        [Action::UseBegan(server(), launch(1)), admitted(0), admitted(1), Action::Unwant(server())],
        "one slot and one until the number is known"
    );
    let slots = NonZeroU32::new(2).expect("not zero");
    assert_eq!(gates.set_slots(&server(), launch(1), slots), [admitted(2)]);
    let (light, _) = gates.arrive(&server(), LIGHT, at(2));
    assert!(matches!(light, Arrived::Admitted(..)), "light requests pass the queue");
    assert_eq!(gates.finish(&server(), launch(1), true, at(3)), [admitted(3)]);
    assert_eq!(gates.standing(&server()), Standing { in_flight: 4, waiting: 0 });
}

#[test]
fn a_server_with_a_request_in_flight_is_not_released_at_once() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1));
    let (arrived, _) = gates.arrive(&server(), WORK, at(1));
    assert!(matches!(arrived, Arrived::Admitted(..)));
    assert_eq!(gates.release(&server(), launch(1), Duration::ZERO, at(1)), Err(1));
    assert!(
        matches!(gates.arrive(&server(), WORK, at(1)).0, Arrived::Admitted(..)),
        "the refused release left the gate open"
    );
    assert_eq!(gates.release(&server(), launch(1), Duration::from_secs(5), at(2)), Ok(vec![]));
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(2)));
    assert_eq!(gates.finish(&server(), launch(1), true, at(3)), []);
    let released = Action::Released { server: server(), incarnation: launch(1), left: 0 };
    assert_eq!(gates.finish(&server(), launch(1), true, at(4)), [released]);
    assert_eq!(gates.reopen(&server(), launch(1))[0], Action::Admit(ticket, launch(1)));
}

#[test]
fn a_drain_ends_at_its_time_with_what_is_left() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1));
    gates.arrive(&server(), WORK, at(1));
    assert_eq!(gates.release(&server(), launch(1), Duration::from_secs(5), at(2)), Ok(vec![]));
    assert_eq!(gates.next_deadline(), Some(at(7)));
    assert_eq!(gates.on_deadline(at(7)), [Action::Released { server: server(), incarnation: launch(1), left: 1 }]);
    assert_eq!(gates.next_deadline(), None);
}

#[test]
fn an_unknown_launch_is_released_at_once() {
    let mut gates = Gates::default();
    let released = Action::Released { server: server(), incarnation: launch(1), left: 0 };
    assert_eq!(gates.release(&server(), launch(1), Duration::ZERO, at(1)), Ok(vec![]));
    assert_eq!(gates.release(&server(), launch(1), Duration::from_secs(1), at(1)), Ok(vec![released]));
}

#[test]
fn requests_of_an_earlier_launch_take_no_place_of_the_next() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1));
    gates.arrive(&server(), WORK, at(1));
    gates.close(&server(), launch(1));
    gates.open(&server(), launch(2));
    assert_eq!(gates.standing(&server()).in_flight, 0);
    gates.arrive(&server(), WORK, at(2));
    assert_eq!(gates.finish(&server(), launch(1), true, at(3)), []);
    assert_eq!(gates.standing(&server()).in_flight, 1);
}

#[test]
fn the_end_of_a_use_is_told_once_it_has_lasted() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1));
    assert_eq!(gates.arrive(&server(), WORK, at(1)).1, [Action::UseBegan(server(), launch(1))]);
    gates.finish(&server(), launch(1), true, at(2));
    assert_eq!(gates.arrive(&server(), WORK, at(3)).1, [], "no second fact within the hysteresis");
    gates.finish(&server(), launch(1), true, at(4));
    assert_eq!(gates.on_deadline(at(13)), []);
    assert_eq!(gates.on_deadline(at(14)), [Action::UseEnded(server(), launch(1), at(4))]);
}

#[test]
fn a_paused_launch_gets_nothing_until_it_answers_again() {
    let mut gates = Gates::default();
    gates.open(&server(), launch(1));
    gates.pause(&server(), launch(1));
    let (ticket, _) = waits(gates.arrive(&server(), WORK, at(1)));
    assert!(gates.open(&server(), launch(1)).contains(&Action::Admit(ticket, launch(1))));
}
