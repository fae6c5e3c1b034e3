//! Sets glibc up for a small heap, and calls `malloc_trim` after 500 ms without events.
//!
//! glibc gives each thread an arena of its own, and returns free memory to the kernel only from an arena's end. The daemon's
//! threads mostly wait, so one arena is enough. Launches leave holes between allocations that stay for months; `malloc_trim`
//! returns those that span whole pages. Other C libraries do this by themselves or have no such call: nothing happens there.

use std::time::Duration;

use llama_warden_bus::{BusClosed, Delivery};
use llama_warden_component::{Component, Ports, Worker};
use llama_warden_events::{NoCommand, Uptime};

/// Time without events before the heap is trimmed.
const QUIET: Duration = Duration::from_millis(500);

/// The component that trims the heap.
#[derive(Debug)]
pub struct HeapTrimmer;

impl Component for HeapTrimmer {
    const NAME: &'static str = "heap";

    type Command = NoCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), BusClosed> {
        ports.drive(TrimmerWorker { due: None }).await
    }
}

struct TrimmerWorker {
    due: Option<Uptime>,
}

impl Worker for TrimmerWorker {
    type Command = NoCommand;
    type Error = BusClosed;
    type Input = ();

    async fn on_event(&mut self, _: Delivery, now: Uptime) -> Result<(), BusClosed> {
        self.due = Some(Uptime::new(now.as_duration() + QUIET));
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.due
    }

    async fn on_deadline(&mut self, _: Uptime) -> Result<(), BusClosed> {
        self.due = None;
        trim();
        Ok(())
    }
}

/// Blocks of this size and above are mapped, each by itself: the rings of servers' output are. A page of such a block costs
/// memory only once it is written to.
#[cfg(target_env = "gnu")]
const MAP_FROM: nix::libc::c_int = 128 * 1024;

/// Makes all threads allocate from one arena, and keeps large blocks out of it. Must be called before a second thread exists.
///
/// By default glibc raises the size from which it maps a block to that of the largest block that was freed. Beyond some hundred
/// servers the 256 KiB rings then come from the arena, from pages that earlier work has written to: 280 KiB each (measured)
/// instead of what was written into the ring. Setting the threshold by hand fixes it.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc is configured by a call")]
pub fn set_up_heap() {
    // SAFETY: mallopt takes two numbers, and may be called at any time from any thread.
    // It fails only for a parameter that it does not know; then the default stays.
    unsafe {
        let _ = nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
        let _ = nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAP_FROM);
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc trims its heap by a call")]
fn trim() {
    // SAFETY: malloc_trim takes a number, and may be called at any time from any thread.
    // It returns whether it released anything, which does not matter here.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// Does nothing: other C libraries have no arenas, and a fixed threshold.
#[cfg(not(target_env = "gnu"))]
pub fn set_up_heap() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
