//! The rules, the choice, and properties of both.

use proptest::prelude::*;

use super::*;

fn id(name: &str) -> ServerId {
    ServerId::new(name).expect("valid")
}

fn set(names: &str) -> BTreeSet<ServerId> {
    names.split_whitespace().map(id).collect()
}

fn group(members: &str) -> RoomGroup {
    RoomGroup { members: set(members), ..RoomGroup::default() }
}

#[test]
fn a_limit_of_number_counts_servers_and_no_canaries() {
    let rules = RoomRules { max_loaded: Some(2), ..RoomRules::default() };
    assert_eq!(rules.refuses(&set("a"), &id("c")), None);
    assert_eq!(rules.refuses(&set("a b"), &id("c")), Some(EvictionCause::Count));
    assert_eq!(rules.refuses(&set("a a~canary"), &id("c")), None);
    assert_eq!(rules.refuses(&set("a b"), &id("b~canary")), None);
    assert_eq!(rules.refuses(&set("a b"), &id("b")), None, "it is one of them");
}

#[test]
fn groups_limit_their_members_and_an_exclusive_one_tolerates_only_persistent_others() {
    let gpu = RoomGroup { at_most: Some(1), ..group("a b") };
    let big = RoomGroup { is_exclusive: true, ..group("x") };
    let always = RoomGroup { is_persistent: true, ..group("embed") };
    let rules = RoomRules { groups: vec![gpu, big, always], ..RoomRules::default() };
    let refuses = |running, target| rules.refuses(&set(running), &id(target)).is_some();
    assert!(refuses("a", "b") && !refuses("a", "c") && !refuses("c", "b"));
    assert!(refuses("c", "x") && !refuses("embed", "x") && !refuses("x", "c"), "a start outside leaves it alone");
    assert!(!rules.may_evict(&id("embed"), &id("x")) && !rules.may_evict(&id("embed"), &id("embed2")));
    assert!(rules.may_evict(&id("a"), &id("b")) && !rules.may_evict(&id("a"), &id("a")));
}

#[test]
fn combinations_say_what_may_run_together_and_one_alone_always_may() {
    let rules = RoomRules { combinations: vec![set("a b"), set("c")], ..RoomRules::default() };
    let refuses = |running, target| rules.refuses(&set(running), &id(target));
    assert_eq!([refuses("a", "b"), refuses("", "d"), refuses("", "c")], [None; 3]);
    assert_eq!([refuses("a", "c"), refuses("a", "d")], [Some(EvictionCause::Combination); 2]);
}

fn candidate((name, cost, idle): (&str, f64, u64)) -> EvictionCandidate {
    EvictionCandidate { server: id(name), cost, idle: Duration::from_secs(idle) }
}

#[test]
fn the_cheapest_enough_is_chosen_and_of_equal_ones_the_longest_idle() {
    let candidates = |list: &[(&str, f64, u64)]| list.iter().copied().map(candidate).collect::<Vec<_>>();
    let two_of = |needed: usize| move |chosen: &BTreeSet<ServerId>| chosen.len() >= needed;
    let list = candidates(&[("a", 3.0, 1), ("b", 1.0, 1), ("c", 1.0, 9)]);
    assert_eq!(choose(list.clone(), two_of(1)), Some(set("c")));
    assert_eq!(choose(list.clone(), two_of(2)), Some(set("b c")));
    assert_eq!(choose(list.clone(), |chosen| chosen.contains("a")), Some(set("a")), "the only one that helps");
    assert_eq!(choose(list, two_of(4)), None);
    assert_eq!(choose(Vec::new(), two_of(0)), None);
    let cheap_pair = candidates(&[("big", 5.0, 0), ("s1", 1.0, 0), ("s2", 1.0, 0)]);
    let fits = |chosen: &BTreeSet<ServerId>| chosen.contains("big") || chosen.len() >= 2;
    assert_eq!(choose(cheap_pair, fits), Some(set("s1 s2")), "two small ones before a dear one");
}

proptest! {
    /// Candidates with sizes; enough is a sum of sizes. Above twelve candidates the greedy way is taken.
    #[test]
    fn what_is_chosen_is_enough_and_nothing_of_it_is_needless(
        servers in prop::collection::vec((1_u32..20, 0_u32..10, 0_u64..5), 1..20), needed in 1_u32..120,
    ) {
        let size = |name: &ServerId| servers[name.as_str()[1..].parse::<usize>().expect("a number")].0;
        let sum = |chosen: &BTreeSet<ServerId>| chosen.iter().map(size).sum::<u32>();
        let list = |number: usize| candidate((&format!("s{number}"), f64::from(servers[number].1), servers[number].2));
        let candidates: Vec<_> = (0..servers.len()).map(list).collect();
        let total: u32 = servers.iter().map(|(size, ..)| size).sum();
        match choose(candidates.clone(), |chosen| sum(chosen) >= needed) {
            None => prop_assert!(total < needed),
            Some(chosen) => {
                prop_assert!(sum(&chosen) >= needed);
                for server in &chosen {
                    let mut less = chosen.clone();
                    less.remove(server);
                    prop_assert!(less.is_empty() || sum(&less) < needed, "{server} is needless");
                }
                if candidates.len() <= EXACT_UP_TO {
                    let cost = |set: &BTreeSet<ServerId>| {
                        candidates.iter().filter(|one| set.contains(&one.server)).map(|one| one.cost).sum::<f64>()
                    };
                    for mask in 1_u32..1 << candidates.len() {
                        let other: BTreeSet<_> = candidates.iter().enumerate()
                            .filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, one)| one.server.clone()).collect();
                        prop_assert!(sum(&other) < needed || cost(&other) >= cost(&chosen));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_allowed_beside_some_is_allowed_beside_fewer(
        running in 0_u8..64, left_out in 0_u8..64, target in 0_u8..6, most in 0_usize..7, kinds in prop::array::uniform2(0_u8..8),
    ) {
        let names = |bits: u8| (0..6).filter(|bit| bits & (1 << bit) != 0).map(|bit| id(&format!("s{bit}"))).collect::<BTreeSet<_>>();
        let groups = [names(0b000_011), names(0b001_100)].into_iter().zip(kinds).map(|(members, kind)| RoomGroup {
            members, at_most: (kind & 1 != 0).then_some(1), is_exclusive: kind & 2 != 0, is_persistent: kind & 4 != 0,
        });
        let rules = RoomRules {
            max_loaded: (most > 0).then_some(most), groups: groups.collect(), combinations: vec![names(0b010_101), names(0b111_010)],
        };
        let target = id(&format!("s{target}"));
        if rules.refuses(&names(running), &target).is_none() {
            prop_assert_eq!(rules.refuses(&names(running & !left_out), &target), None);
        }
    }
}
