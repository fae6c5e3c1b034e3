//! Ports of discovered models.

use std::collections::BTreeSet;

use llama_warden_catalog::{DiscoveredModel, assign_ports};

use super::Models;
use crate::support::Gguf;

fn three() -> Vec<DiscoveredModel> {
    let models = Models::new();
    for name in ["a", "b", "c"] {
        models.put(&format!("{name}-8B.gguf"), &Gguf::model("llama"));
    }
    models.discover().models
}

fn ports(models: &[DiscoveredModel]) -> Vec<Option<u16>> {
    models.iter().map(|model| model.port).collect()
}

#[test]
fn ports_follow_the_ids_whatever_the_order() {
    let mut models = three();
    models.reverse();
    assign_ports(&mut models, 8001, &BTreeSet::new(), |_| true).expect("enough");
    assert_eq!(ports(&models), [Some(8003), Some(8002), Some(8001)]);
}

#[test]
fn taken_and_busy_ports_are_passed_over_and_asked_for_once() {
    let mut models = three();
    let mut asked = Vec::new();
    let is_free = |port| {
        asked.push(port);
        port != 8003
    };
    assign_ports(&mut models, 8001, &BTreeSet::from([8002]), is_free).expect("enough");
    assert_eq!(ports(&models), [Some(8001), Some(8004), Some(8005)]);
    assert_eq!(asked, [8001, 8003, 8004, 8005]);
}

#[test]
fn a_port_that_a_model_has_stays() {
    let mut models = three();
    models[2].port = Some(8001);
    assign_ports(&mut models, 8001, &BTreeSet::new(), |_| true).expect("enough");
    assert_eq!(ports(&models), [Some(8002), Some(8003), Some(8001)]);
}

#[test]
fn models_beyond_the_last_port_are_named() {
    let mut models = three();
    let error = assign_ports(&mut models, u16::MAX, &BTreeSet::new(), |_| true).expect_err("too few");
    assert_eq!(ports(&models), [Some(u16::MAX), None, None]);
    assert_eq!(error.left.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["b_8b_q4km", "c_8b_q4km"]);
    assert_eq!(error.to_string(), "no free port from 65535 to 65535 is left for 2 models, the first of them b_8b_q4km");
}

#[test]
fn port_zero_is_never_given() {
    let mut models = three();
    assign_ports(&mut models, 0, &BTreeSet::new(), |_| true).expect("enough");
    assert_eq!(ports(&models), [Some(1), Some(2), Some(3)]);
}
