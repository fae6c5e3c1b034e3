//! Every figure: what it measures, in which unit, what it is compared with, and its budget.

use crate::figure::Budget::{self, AtLeast, OverBaseline, TimesBaseline};
use crate::figure::FigureTarget;
use crate::figure::Unit::{self, Kibibytes, Mebibytes, MegabytesPerSecond, Microseconds, Milliseconds, Percent, Times};

const fn target(name: &'static str, unit: Unit, baseline: &'static str, budget: Budget) -> FigureTarget {
    FigureTarget { name, unit, baseline, budget }
}

const fn at_most(median: f64, p99: f64) -> Budget {
    Budget::AtMost { median, p99 }
}

pub const READY_WITH_LINES: FigureTarget =
    target("ready after /health 200, with lines", Milliseconds, "between two polls", at_most(5.0, 50.0));
pub const EARLY_WITH_LINES: FigureTarget =
    target("ready too early, with lines", Milliseconds, "between two polls", Budget::never_over(0.0));
pub const READY_IN_A_CROWD: FigureTarget =
    FigureTarget { name: "ready after /health 200, beside 12 000 closed connections", ..READY_WITH_LINES };
pub const READY_SILENT: FigureTarget = FigureTarget { name: "ready after /health 200, silent", ..READY_WITH_LINES };
pub const EARLY_SILENT: FigureTarget = FigureTarget { name: "ready too early, silent", ..EARLY_WITH_LINES };

pub const SPAWN_AT_ONCE: FigureTarget =
    target("spawn 100 stand-ins at once", Milliseconds, "bare posix_spawn", TimesBaseline(2.0));
pub const SPAWN_ONE_BY_ONE: FigureTarget = FigureTarget { name: "spawn 100 stand-ins one by one", ..SPAWN_AT_ONCE };

/// Pages of its own and of its shims, without those of files.
pub const GUARDIAN_MEMORY: FigureTarget = target(
    "memory of the guardian of 3 servers",
    Kibibytes,
    "resident, with pages of files",
    Budget::never_over(1024.0),
);
/// Pages that no other process has.
pub const SHIM_MEMORY: FigureTarget =
    target("memory of a server's shim", Kibibytes, "resident, with pages of files", Budget::never_over(100.0));
/// It has run nothing yet.
pub const SPARE_MEMORY: FigureTarget =
    target("memory of the shim that waits for the next program", Kibibytes, "a server's shim", TimesBaseline(1.0));

pub const IDLE_MEMORY: FigureTarget =
    target("idle memory with 3 servers", Mebibytes, "without servers", Budget::never_over(12.0));
/// A kernel wakes threads now and then; a timer of one second would make ten.
pub const IDLE_WAKEUPS: FigureTarget =
    target("idle wake-ups in 10 s", Times, "without servers", Budget::never_over(2.0));
/// Beside what its rings hold.
pub const FURTHER_UP_TO_50: FigureTarget =
    target("memory of a further server, up to 50", Kibibytes, "what its rings hold", Budget::never_over(20.0));
pub const FURTHER_UP_TO_200: FigureTarget =
    FigureTarget { name: "memory of a further server, up to 200", ..FURTHER_UP_TO_50 };
pub const FURTHER_UP_TO_500: FigureTarget =
    FigureTarget { name: "memory of a further server, up to 500", ..FURTHER_UP_TO_50 };
pub const FURTHER_WITH_FULL_RINGS: FigureTarget =
    FigureTarget { name: "memory of a further server, with full rings", ..FURTHER_UP_TO_50 };

pub const OUTPUT_SPEED: FigureTarget =
    target("output through one core", MegabytesPerSecond, "read and thrown away", AtLeast(300.0));
pub const OUTPUT_WAIT: FigureTarget =
    target("longest wait of a writer", Milliseconds, "read and thrown away", Budget::never_over(100.0));

pub const LANE_SPEED: FigureTarget =
    target("patterns and ring alone", MegabytesPerSecond, "patterns of each pack", AtLeast(300.0));
pub const PATTERN_COST: FigureTarget = target(
    "patterns of each pack, to one substring search",
    Times,
    "to the four of start-up scripts",
    Budget::never_over(8.0),
);

pub const SWITCH: FigureTarget =
    target("switch, 15 of 20 in common", Milliseconds, "slowest stop + start", TimesBaseline(1.1));
/// Each of the fifty may add 10 ms.
pub const SIDE_BY_SIDE: FigureTarget =
    target("50 servers loading side by side", Milliseconds, "one of them alone", OverBaseline(500.0));

/// The p99 leaves room for a machine whose processors are busy: several threads have to run, one after the other.
pub const DEATH_SEEN: FigureTarget =
    target("killed server is seen", Milliseconds, "witness of our own", at_most(10.0, 50.0));
/// A timer of tokio has steps of a millisecond, and a busy machine adds a scheduling delay or two.
pub const RESTART_LATE: FigureTarget =
    target("restart after its back-off", Milliseconds, "a thread oversleeps", at_most(5.0, 50.0));
pub const RESTART_EARLY: FigureTarget =
    target("restart too early", Milliseconds, "a thread oversleeps", Budget::never_over(0.0));

/// In percent of one core.
pub const WATCHING: FigureTarget =
    target("watching 100 ready servers", Percent, "all else of the daemon", at_most(0.5, 1.0));

/// In processor time of the thread that renders it.
pub const PAGE_TIME: FigureTarget =
    target("metrics page of 1000 running servers", Milliseconds, "reads of /proc and a copy", at_most(10.0, 50.0));
pub const PAGE_RUNNING: FigureTarget =
    target("metrics page, per running server", Kibibytes, "its label alone", Budget::never_over(3.0));
pub const PAGE_WAITING: FigureTarget =
    target("metrics page, per server never launched", Kibibytes, "its label alone", Budget::never_over(1.0));
pub const PAGE_OF_HANGING: FigureTarget =
    target("own metrics of 50 servers, 5 of which hang", Milliseconds, "the deadline", OverBaseline(50.0));

pub const DISCOVERY_TIME: FigureTarget =
    target("discovery of 1000 models", Milliseconds, "plain reads of headers", at_most(1000.0, 2000.0));
/// A discovery skips arrays of numbers, and reads blocks that end a little after what it needs: less than the whole header.
pub const DISCOVERY_READ: FigureTarget = target("read of one model", Kibibytes, "its header", TimesBaseline(1.0));

pub const TAKE_OVER_GAP: FigureTarget = target(
    "take-over of 3 servers, without an answer",
    Milliseconds,
    "while nothing happens",
    Budget::never_over(300.0),
);
pub const TAKE_OVER_FAILURES: FigureTarget =
    target("failed requests to a server meanwhile", Times, "answered ones", Budget::never_over(0.0));
pub const ADOPTED_DEATH_SEEN: FigureTarget =
    target("killed server of a former daemon is seen", Milliseconds, "witness of our own", Budget::never_over(1000.0));

/// In percent of one core.
pub const TOP: FigureTarget = target("`top` with 500 servers", Percent, "the daemon meanwhile", at_most(2.0, 3.0));

/// In processor time of the daemon.
pub const EXPORTS: FigureTarget =
    target("50 servers started at once, with OpenTelemetry", Milliseconds, "without it", TimesBaseline(1.02));

/// Anonymous memory and pages of the program.
pub const RESTARTS_MEMORY: FigureTarget =
    target("growth by many restarts of a server", Kibibytes, "resident before", Budget::never_over(1024.0));

/// Beside the same proxied by nginx, everything on one core.
pub const ROUTER_ADDS: FigureTarget =
    target("router adds to an answer, p50", Microseconds, "nginx adds", OverBaseline(10.0));
/// In processor time of the whole daemon. nginx may need 0.55 of it; of large requests 0.8, of events 0.7 and 0.6.
pub const ROUTER_SMALL: FigureTarget = target("router, a request of 300 B", Microseconds, "nginx", TimesBaseline(1.82));
pub const ROUTER_LARGE: FigureTarget =
    target("router, a request of 64 KiB", Microseconds, "nginx", TimesBaseline(1.25));
/// Beside an nginx that does what the router does with a body: it reads the whole of it, and its model names the server.
pub const ROUTER_SMALL_BY_MODEL: FigureTarget =
    FigureTarget { baseline: "nginx with Lua", budget: Budget::Unlimited, ..ROUTER_SMALL };
pub const ROUTER_LARGE_BY_MODEL: FigureTarget =
    FigureTarget { baseline: "nginx with Lua", budget: Budget::Unlimited, ..ROUTER_LARGE };
pub const ROUTER_PACED: FigureTarget =
    target("router, an event of a stream each ms", Microseconds, "nginx", TimesBaseline(1.43));
pub const ROUTER_DENSE: FigureTarget =
    target("router, an event of a stream at full speed", Microseconds, "nginx", TimesBaseline(1.67));
pub const ROUTER_AFTER_READY: FigureTarget =
    target("first byte after ready, of a request that waits", Milliseconds, "from its start", at_most(2.0, 20.0));
pub const ROUTER_AFTER_POLL: FigureTarget = target(
    "first byte after /health 200, of a request that waits",
    Milliseconds,
    "between two polls",
    at_most(5.0, 50.0),
);
/// Above the idle daemon.
pub const ROUTER_STREAMS: FigureTarget =
    target("memory of 1000 streams in flight", Mebibytes, "the idle daemon", Budget::never_over(45.0));
pub const ROUTER_IDLE_MEMORY: FigureTarget =
    target("memory of a router that nobody asks", Kibibytes, "the daemon without it", Budget::never_over(1024.0));
pub const ROUTER_IDLE_WAKEUPS: FigureTarget =
    target("wake-ups in 10 s, with a router", Times, "without it", OverBaseline(1.0));
pub const SCANNER_TEXT: FigureTarget =
    target("bodies searched for their model, text", MegabytesPerSecond, "quotes counted", AtLeast(1000.0));
pub const SCANNER_IMAGE: FigureTarget =
    FigureTarget { name: "bodies searched for their model, images", ..SCANNER_TEXT };
