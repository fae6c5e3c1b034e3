//! Decides whether there is room for the launch of a server, and which servers make room for it.
//!
//! * `admission`: the memory that launches need, wait for and have reserved ([`Admission`]).
//! * `budget`: what is free of it ([`MemoryFit`]).
//! * `eviction`: which servers may run together ([`RoomRules`]), and which of them are stopped for another one ([`choose`]).
//!
//! Everything is plain state: no clock, no task, no file. Times, estimates and readings are arguments.

mod admission;
mod budget;
mod eviction;

pub use admission::{Admission, AdmissionAction, AdmissionDecision, AdmissionPass};
pub use budget::{MemoryFit, ReservationStage};
pub use eviction::{EvictionCandidate, RoomGroup, RoomRules, choose};
