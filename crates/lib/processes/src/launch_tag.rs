//! The launch tag: an environment variable by which the processes of a launch are recognised.
//!
//! Descendants inherit it. One that clears its environment is recognised by its group or by the instance lock.

use llama_warden_events::{BootId, Incarnation, ServerId};

/// The name of the variable.
pub const LAUNCH_TAG_VARIABLE: &str = "LLAMA_WARDEN_LAUNCH";

/// The variable `LLAMA_WARDEN_LAUNCH=boot/server/incarnation` in the environment of a launch and its descendants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTag(String);

impl LaunchTag {
    /// The tag of one launch.
    pub fn new(boot: &BootId, server: &ServerId, incarnation: Incarnation) -> Self {
        Self(format!("{LAUNCH_TAG_VARIABLE}={boot}/{server}/{incarnation}"))
    }

    /// The tag of the commands that are run around a server's launches.
    pub fn of_hook(boot: &BootId, server: &ServerId) -> Self {
        Self(format!("{LAUNCH_TAG_VARIABLE}={boot}/{server}/hook"))
    }

    /// The tag with this value of the variable.
    pub fn from_value(value: &str) -> Self {
        Self(format!("{LAUNCH_TAG_VARIABLE}={value}"))
    }

    /// A tag that matches every launch of one run of the daemon.
    pub fn of_run(boot: &str) -> Self {
        Self(format!("{LAUNCH_TAG_VARIABLE}={boot}/"))
    }

    /// A tag that matches every launch of a server in one run of the daemon.
    pub fn of_server(boot: &BootId, server: &ServerId) -> Self {
        Self(format!("{LAUNCH_TAG_VARIABLE}={boot}/{server}/"))
    }

    /// Whether every process with the tag `other` also matches this one.
    pub fn includes(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }

    /// Whether a process was started with this tag. `false` if its environment cannot be read: a process of ours runs as our own
    /// user. The process may end before this returns: callers hold a handle of it, or have not reaped it.
    pub fn is_of(&self, pid: u32) -> bool {
        llama_warden_procfs::environment(pid).split(|byte| *byte == 0).any(|entry| self.matches(entry))
    }

    /// Whether an entry of `/proc/PID/environ` is this tag, or one that this tag is a prefix of.
    pub fn matches(&self, entry: &[u8]) -> bool {
        let own = self.0.as_bytes();
        if own.ends_with(b"/") { entry.starts_with(own) } else { entry == own }
    }

    /// The value of the variable.
    pub fn value(&self) -> &str {
        self.0.split_once('=').map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_for_a_launch_or_a_whole_run() {
        let server = ServerId::new("qwen3").expect("valid");
        let tag = LaunchTag::new(&BootId::from_random(0xabc), &server, Incarnation::new(2));
        let run = LaunchTag::of_run("0000000000000abc");
        for (entry, is_launch, is_run) in [
            ("LLAMA_WARDEN_LAUNCH=0000000000000abc/qwen3/2", true, true),
            ("LLAMA_WARDEN_LAUNCH=0000000000000abc/qwen3/22", false, true),
            ("LLAMA_WARDEN_LAUNCH=0000000000000abd/qwen3/2", false, false),
            ("A=LLAMA_WARDEN_LAUNCH=0000000000000abc/qwen3/2", false, false),
            ("", false, false),
        ] {
            assert_eq!(tag.matches(entry.as_bytes()), is_launch, "{entry}");
            assert_eq!(run.matches(entry.as_bytes()), is_run, "{entry}");
        }
    }
}
