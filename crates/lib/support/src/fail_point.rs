//! Fail points: named places at which a test has the program killed.
//!
//! `LLAMA_WARDEN_FAIL_POINT=NAME:N` ends this process by SIGKILL when it comes to the point `NAME` for the `N`th time; without `:N`,
//! for the first time. Only builds with debug assertions have the points and know the variable, which those that are shipped are not.
//! A test collects the names from the sources and kills the daemon at each ([why](../../../../docs/decisions/0025-fail-points.md)).

use std::path::Path;

/// A place with this name, which is a literal that no other place has.
#[inline]
pub fn fail_point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::reach(name, None);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// As [`fail_point`], in a step that is taken for several files: the point is called `NAME@FILE`, without the folder of the file.
#[inline]
pub fn fail_point_of(name: &'static str, file: &Path) {
    #[cfg(debug_assertions)]
    armed::reach(name, file.file_name());
    #[cfg(not(debug_assertions))]
    let _ = (name, file);
}

#[cfg(debug_assertions)]
mod armed {
    use std::env;
    use std::ffi::OsStr;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The point at which this process ends, if there is one.
    static ARMED: LazyLock<Option<ArmedPoint>> = LazyLock::new(|| {
        let text = env::var("LLAMA_WARDEN_FAIL_POINT").ok()?;
        Some(ArmedPoint::parse(&text))
    });

    #[derive(Debug)]
    pub(super) struct ArmedPoint {
        name: String,
        file: Option<String>,
        /// How often it is still to be reached.
        left: AtomicU32,
    }

    impl ArmedPoint {
        pub(super) fn parse(text: &str) -> Self {
            let (point, left) = match text.rsplit_once(':') {
                Some((point, number)) => (point, number.parse().unwrap_or(1)),
                None => (text, 1),
            };
            let (name, file) = match point.split_once('@') {
                Some((name, file)) => (name, Some(file.to_owned())),
                None => (point, None),
            };
            Self { name: name.to_owned(), file, left: AtomicU32::new(left) }
        }

        /// Whether this is the time to end.
        pub(super) fn is_due(&self, name: &str, file: Option<&OsStr>) -> bool {
            self.name == name
                && self.file.as_deref().map(OsStr::new) == file
                && self.left.fetch_sub(1, Ordering::Relaxed) == 1
        }
    }

    pub(super) fn reach(name: &str, file: Option<&OsStr>) {
        if ARMED.as_ref().is_some_and(|point| point.is_due(name, file)) {
            // The kernel ends the process before this call returns.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::ffi::OsStr;

    use super::armed::ArmedPoint;

    #[test]
    fn a_point_is_due_once_and_at_its_number() {
        let third = ArmedPoint::parse("launch-begun:3");
        let due: Vec<bool> = (0..5).map(|_| third.is_due("launch-begun", None)).collect();
        assert_eq!(due, [false, false, true, false, false]);
        let first = ArmedPoint::parse("launch-begun");
        assert!(!first.is_due("launch-ended", None) && first.is_due("launch-begun", None));
    }

    #[test]
    fn a_point_of_a_file_is_due_for_that_file() {
        let point = ArmedPoint::parse("file-written@ports.json:1");
        let [ports, boots] = ["ports.json", "boots"].map(OsStr::new);
        assert!(!point.is_due("file-written", None) && !point.is_due("file-written", Some(boots)));
        assert!(point.is_due("file-written", Some(ports)));
    }
}
