//! Limits glibc to one arena, and calls `malloc_trim` after 500 ms without events.
//!
//! glibc gives each thread an arena of its own, and returns free memory to the kernel only from an arena's end. The daemon's
//! threads mostly wait, so one arena is enough. Launches leave holes between allocations that stay for months; `malloc_trim`
//! returns those that span whole pages. Other C libraries do this by themselves or have no such call: nothing happens there.

use std::convert::Infallible;
use std::time::Duration;

use llama_warden_component::{Component, Ports};
use llama_warden_events::{NoCommand, Uptime};

/// Time without events before the heap is trimmed.
const QUIET: Duration = Duration::from_millis(500);

/// The component that trims the heap.
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

/// Makes all threads allocate from one arena. Must be called before a second thread exists.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc is configured by a call")]
pub fn use_one_arena() {
    // SAFETY: mallopt takes two numbers, and may be called at any time from any thread.
    // It fails only for a parameter that it does not know; then threads have arenas of their own, as by default.
    let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc trims its heap by a call")]
fn trim() {
    // SAFETY: malloc_trim takes a number, and may be called at any time from any thread.
    // It returns whether it released anything, which does not matter here.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// Does nothing: only glibc has arenas.
#[cfg(not(target_env = "gnu"))]
pub fn use_one_arena() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
