//! The daemon's heap: one for all threads, and what is free in it goes back to the kernel when nothing happens any more.
//!
//! The C library gives each thread an arena of its own, of which it never gives back what is free below its end. A daemon
//! whose threads mostly wait needs one. Launches leave holes in it, between things that stay for months; those that span whole
//! pages are given back once no event has come for a while. Other C libraries look after that themselves, or cannot be told.

use std::convert::Infallible;
use std::time::Duration;

use llama_warden_component::{Component, Ports};
use llama_warden_events::{NoCommand, Uptime};

/// How long no event has to come.
const QUIET: Duration = Duration::from_millis(500);

/// Gives back memory whenever nothing happens.
#[derive(Debug)]
pub struct HeapTrimmer;

impl Component for HeapTrimmer {
    const NAME: &'static str = "heap";

    type Command = NoCommand;
    type Error = Infallible;

    async fn run(self, mut ports: Ports<NoCommand>) -> Result<(), Infallible> {
        let mut due: Option<Uptime> = None;
        loop {
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                delivery = ports.subscription.next() => match delivery {
                    Some(_) => due = Some(Uptime::new(ports.clock.now().as_duration() + QUIET)),
                    None => return Ok(()),
                },
                () = ports.clock.sleep_until(due) => {
                    due = None;
                    trim();
                }
            }
        }
    }
}

/// Lets all threads allocate from one heap. Must be called before there is a second one.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's heap is set up by a call to it")]
pub fn use_one_arena() {
    // SAFETY: it takes two numbers, and may be called at any time from any thread.
    // It can only fail for numbers that it does not know; then threads have heaps of their own, as by default.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's heap is trimmed by a call to it")]
fn trim() {
    // SAFETY: it takes a number, and may be called at any time from any thread. What it says is whether there was anything.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// Nothing: this C library has one heap.
#[cfg(not(target_env = "gnu"))]
pub fn use_one_arena() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
