//! Promises about any sequence of arrivals, launches, commands and times.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::QueueClient;

/// What happens to one of a few servers. Numbers of requests and launches wrap around.
#[derive(Debug, Clone)]
enum Happening {
    Arrive {
        works: bool,
        ttl: Option<u64>,
        concurrency: Option<u32>,
        lost: bool,
    },
    Leave(usize),
    Finish(usize),
    AnswerBegan,
    Spawn,
    Pause,
    Doubt,
    TellAgain,
    Resume,
    Close,
    Slots(u32),
    Release(Option<u64>),
    Reopen,
    Dismiss,
    Remove,
    /// So many tenths of a second.
    Pass(u64),
    /// To the next deadline.
    Deadline,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let arrive = (any::<bool>(), prop::option::of(1_u64..12), prop::option::of(1_u32..4), any::<bool>());
    prop_oneof![
        6 => arrive.prop_map(|(works, ttl, concurrency, lost)| Arrive { works, ttl, concurrency, lost }),
        2 => (0_usize..9).prop_map(Leave),
        5 => (0_usize..9).prop_map(Finish),
        1 => Just(AnswerBegan),
        3 => Just(Spawn),
        1 => Just(Pause),
        1 => Just(Doubt),
        1 => Just(TellAgain),
        1 => Just(Resume),
        1 => Just(Close),
        1 => (1_u32..4).prop_map(Slots),
        2 => prop::option::of(0_u64..5).prop_map(Release),
        1 => Just(Reopen),
        1 => Just(Dismiss),
        1 => Just(Remove),
        4 => (0_u64..40).prop_map(Pass),
        4 => Just(Deadline),
    ]
}

#[derive(Default)]
struct Played {
    gates: Gates,
    now: Uptime,
    launches: BTreeMap<ServerId, u64>,
    waiting: Vec<(ServerId, Ticket, AdmittedAs)>,
    in_flight: Vec<(ServerId, Incarnation, AdmittedAs)>,
    /// Since when the oldest of the told demand waits, and when it was told.
    wanted: BTreeMap<ServerId, Uptime>,
}

impl Played {
    fn take(&mut self, actions: Vec<GateAction>) {
        for action in actions {
            match action {
                GateAction::Admit(ticket, incarnation) => {
                    let place = self.waiting.iter().position(|(_, waiting, _)| *waiting == ticket);
                    let (server, _, admitted_as) = self.waiting.remove(place.expect("it waited and was answered once"));
                    assert_eq!(incarnation.get(), self.launches[&server], "to the latest launch");
                    self.in_flight.push((server, incarnation, admitted_as));
                }
                GateAction::Want { server, oldest, .. } => {
                    assert_ne!(self.wanted.insert(server, oldest), Some(oldest), "told already");
                }
                GateAction::Unwant(server) => assert!(self.wanted.remove(&server).is_some(), "never told"),
                GateAction::Released { .. }
                | GateAction::Look(..)
                | GateAction::UseBegan(..)
                | GateAction::UseEnded(..)
                | GateAction::Rearm => {}
            }
        }
    }

    fn play(&mut self, server: &ServerId, happening: Happening) {
        let now = self.now;
        let launch = *self.launches.entry(server.clone()).or_default();
        let incarnation = Incarnation::new(launch);
        let actions = match happening {
            Happening::Arrive { works, ttl, concurrency, lost } => {
                let arrival = Arrival {
                    works,
                    concurrency: concurrency.and_then(NonZeroU32::new),
                    queue: 5,
                    priority: 0,
                    ttl: ttl.map(Duration::from_secs),
                    client: QueueClient::Local,
                    lost_with: lost.then_some(incarnation),
                };
                let (arrived, actions) = self.gates.arrive(server, arrival, now);
                match arrived {
                    Arrived::Admitted(to) => self.in_flight.push((server.clone(), to, arrival.admitted_as())),
                    Arrived::Waits(ticket) => self.waiting.push((server.clone(), ticket, arrival.admitted_as())),
                    Arrived::QueueFull => {}
                }
                actions
            }
            Happening::Leave(number) if !self.waiting.is_empty() => {
                let (server, ticket, _) = self.waiting.remove(number % self.waiting.len());
                self.gates.leave(&server, ticket, now)
            }
            Happening::Finish(number) if !self.in_flight.is_empty() => {
                let (server, incarnation, admitted_as) = self.in_flight.remove(number % self.in_flight.len());
                self.gates.finish(&server, incarnation, admitted_as, now)
            }
            Happening::Leave(_) | Happening::Finish(_) => Vec::new(),
            Happening::AnswerBegan => self.gates.answer_began(server, incarnation, now),
            Happening::Spawn => {
                let closed = self.gates.close(server, incarnation, now);
                self.take(closed);
                self.launches.insert(server.clone(), launch + 1);
                self.gates.open(server, incarnation.next(), now)
            }
            Happening::Pause => self.gates.pause(server, incarnation, now),
            Happening::Doubt => self.gates.doubt(server, incarnation, now),
            Happening::TellAgain => {
                self.wanted.remove(server);
                self.gates.tell_again(server, now)
            }
            Happening::Resume => self.gates.resume(server, incarnation, now),
            Happening::Close => self.gates.close(server, incarnation, now),
            Happening::Slots(slots) => {
                self.gates.set_slots(server, incarnation, NonZeroU32::new(slots).expect("above zero"), now)
            }
            Happening::Release(drain) => {
                let drain = drain.map_or(Duration::MAX, Duration::from_secs);
                self.gates.release(server, incarnation, drain, now).unwrap_or_default()
            }
            Happening::Reopen => self.gates.reopen(server, incarnation, now),
            Happening::Dismiss => {
                let (tickets, actions) = self.gates.dismiss(server, now);
                self.waiting.retain(|(_, ticket, _)| !tickets.contains(ticket));
                actions
            }
            Happening::Remove => {
                self.gates.remove(server);
                self.waiting.retain(|(of, ..)| of != server);
                self.in_flight.retain(|(of, ..)| of != server);
                self.wanted.remove(server);
                Vec::new()
            }
            Happening::Pass(tenths) => {
                self.now = now + Duration::from_millis(100 * tenths);
                self.gates.on_deadline(self.now)
            }
            Happening::Deadline => {
                self.now = now.max(self.gates.next_deadline().unwrap_or_default());
                self.gates.on_deadline(self.now)
            }
        };
        self.take(actions);
    }
}

proptest! {
    #[test]
    fn the_next_deadline_is_that_of_the_gate_that_is_first(
        happenings in prop::collection::vec((0_usize..3, happening()), 1..120),
    ) {
        let servers = ["a", "b", "c"].map(|id| ServerId::new(id).expect("valid"));
        let mut played = Played { now: Uptime::new(Duration::from_secs(100)), ..Played::default() };
        for (server, happening) in happenings {
            played.play(&servers[server], happening);
            let walked = played.gates.gates.values().filter_map(ServerGate::next_deadline).min();
            prop_assert_eq!(played.gates.next_deadline(), walked);
            prop_assert!(played.gates.deadlines.len() <= played.gates.gates.len());
            // What is due is done at its time, so that no shell turns in a circle.
            let is_due = walked.is_some_and(|at| at <= played.now);
            if is_due {
                let actions = played.gates.on_deadline(played.now);
                played.take(actions);
                prop_assert!(played.gates.next_deadline().is_none_or(|at| at > played.now));
            }
        }
    }

    #[test]
    fn demand_is_told_of_servers_for_which_requests_wait_and_of_no_other(
        happenings in prop::collection::vec((0_usize..3, happening()), 1..120),
    ) {
        let servers = ["a", "b", "c"].map(|id| ServerId::new(id).expect("valid"));
        let mut played = Played { now: Uptime::new(Duration::from_secs(100)), ..Played::default() };
        for (server, happening) in happenings {
            played.play(&servers[server], happening);
            for server in &servers {
                let waits = played.waiting.iter().any(|(of, ..)| of == server);
                let is_told = played.wanted.contains_key(server);
                prop_assert!(!is_told || waits, "nobody waits");
                prop_assert!(is_told || !waits || played.gates.is_open(server), "somebody waits for a start");
            }
        }
        // Who goes on waiting for a slot is told in time.
        played.play(&servers[0], Happening::Pass(20));
        for server in &servers {
            let waits = played.waiting.iter().any(|(of, ..)| of == server);
            prop_assert_eq!(played.wanted.contains_key(server), waits);
        }
    }
}
