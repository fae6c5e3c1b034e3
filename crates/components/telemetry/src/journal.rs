//! The log as entries of systemd's journal, in its native protocol.
//!
//! systemd names the device and the inode of a standard error that goes to the journal in `JOURNAL_STREAM`. An entry is one
//! datagram: lines `NAME=value`, and for a value with line feeds the name, the length in eight bytes, and the value
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>). It has the fields `MESSAGE`, `PRIORITY`, `SYSLOG_IDENTIFIER`, and one
//! `LLAMA_WARDEN_...` for each field of the event, such as `LLAMA_WARDEN_SERVER` and `LLAMA_WARDEN_EVENT`.

use std::ffi::OsStr;
use std::fmt::{Debug, Write as _};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::stat::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::queue::LineQueue;

/// Where journald receives entries.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Fields that the text leaves out: they say where an event is in the order of all, and what the text says in words.
const UNSAID: [&str; 3] = ["seq", "incarnation", "event"];

/// Whether `stream` is the one that `JOURNAL_STREAM` names. A child inherits the variable also where its own streams go elsewhere.
pub(crate) fn is_journal(stream: impl AsFd, variable: Option<&OsStr>) -> bool {
    let named = variable.and_then(OsStr::to_str).and_then(|text| text.split_once(':'));
    let (Some((device, inode)), Ok(stat)) = (named, fstat(stream)) else { return false };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

/// The numbers of syslog(3), which the journal shares.
pub(crate) const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Sends each piece that is written as one datagram. The address is looked up for each, so that a journal that was started again
/// gets them.
#[derive(Debug)]
pub(crate) struct JournalSocket(UnixDatagram);

impl JournalSocket {
    /// A socket, if journald listens.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(Path::new(SOCKET))?;
        UnixDatagram::unbound().map(Self)
    }
}

impl Write for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.send_to(entry, SOCKET)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes an entry of each log event.
pub(crate) struct JournalLayer {
    queue: LineQueue,
}

impl JournalLayer {
    pub(crate) const fn new(queue: LineQueue) -> Self {
        Self { queue }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = JournalFields::default();
        event.record(&mut fields);
        self.queue.push(&fields.into_entry(*event.metadata().level()));
    }
}

/// The fields of one log event.
#[derive(Default)]
struct JournalFields {
    message: String,
    /// What follows the message in the text.
    details: String,
    entry: Vec<u8>,
}

impl JournalFields {
    fn into_entry(mut self, level: Level) -> Vec<u8> {
        put(&mut self.entry, "MESSAGE", &(self.message + &self.details));
        put(&mut self.entry, "PRIORITY", &priority(level).to_string());
        put(&mut self.entry, "SYSLOG_IDENTIFIER", "llama-warden");
        self.entry
    }

    fn add(&mut self, field: &Field, value: &str, shown: &dyn Debug) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        if !UNSAID.contains(&field.name()) {
            // Writing to a String cannot fail.
            let _ = write!(self.details, " {field}={shown:?}");
        }
        let letters = field
            .name()
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
        let name = format!("LLAMA_WARDEN_{}", letters.collect::<String>());
        put(&mut self.entry, &name, value);
    }
}

impl Visit for JournalFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"), value);
    }
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn entry_of(log: impl FnOnce()) -> String {
        let (near, far) = UnixDatagram::pair().expect("a pair");
        struct Sink(UnixDatagram);
        impl Write for Sink {
            fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
                self.0.send(entry)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LineQueue::start(Sink(far), |_| {}).expect("starts");
        let subscriber = tracing_subscriber::registry().with(JournalLayer::new(queue.clone()));
        tracing::subscriber::with_default(subscriber, log);
        queue.close(Duration::from_secs(20));
        let mut entry = [0; 4096];
        let length = near.recv(&mut entry).expect("an entry");
        String::from_utf8_lossy(&entry[..length]).into_owned()
    }

    #[test]
    fn an_entry_has_the_text_and_a_field_for_each_value() {
        let entry = entry_of(|| {
            tracing::error!(seq = 7, event = "ServerFailed", server = "a", reason = %"crashed", "server failed");
        });
        for line in [
            "MESSAGE=server failed server=\"a\" reason=crashed",
            "PRIORITY=3",
            "SYSLOG_IDENTIFIER=llama-warden",
            "LLAMA_WARDEN_SERVER=a",
            "LLAMA_WARDEN_EVENT=ServerFailed",
            "LLAMA_WARDEN_SEQ=7",
            "LLAMA_WARDEN_REASON=crashed",
        ] {
            assert!(entry.lines().any(|given| given == line), "{line} in {entry}");
        }
    }

    #[test]
    fn a_value_with_line_feeds_adds_no_field_of_its_own() {
        let entry = entry_of(|| tracing::info!(detail = "one\nPRIORITY=0", "told"));
        assert!(entry.contains("LLAMA_WARDEN_DETAIL\n\u{e}\0\0\0\0\0\0\0one\nPRIORITY=0\n"), "{entry:?}");
        assert!(entry.contains("MESSAGE=told detail=\"one\\nPRIORITY=0\"\n"), "{entry:?}");
    }

    #[test]
    fn only_the_stream_that_the_variable_names_is_the_journal() {
        let file = File::open("/proc/self/status").expect("readable");
        let stat = fstat(&file).expect("open");
        let named = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_journal(&file, Some(OsStr::new(&named))));
        for other in [Some("1:2"), Some(""), Some("x:y"), None] {
            assert!(!is_journal(&file, other.map(OsStr::new)), "{other:?}");
        }
    }
}
