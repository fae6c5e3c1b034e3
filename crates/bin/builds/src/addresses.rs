//! Whether this machine can listen where a configuration says: the names in it are looked up, within a time that a person waits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use llama_warden_config::{ConfigProblem, Configuration, Fleet};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Longest wait for all names together: a name server that does not answer takes half a minute.
const LONGEST: Duration = Duration::from_secs(2);

/// Most names that are looked up at a time, each by a thread.
const ASKED_AT_ONCE: usize = 16;

/// What is said of a server, and of the daemon and its router, that cannot listen.
const LAUNCH_WAITS: &str = "a launch waits until it can";
const NO_START: &str = "the daemon does not start without it";

/// The addresses of the names of a configuration, or why a name has none.
#[derive(Debug, Default)]
pub struct HostNames(BTreeMap<String, Result<Vec<IpAddr>, String>>);

impl HostNames {
    /// Looks up the names on which the daemon, its router and these servers listen, for 2 s at most.
    pub(crate) async fn look_up(configuration: &Configuration, fleet: &Fleet) -> Self {
        let (api, router) = (configuration.daemon().listen.as_ref(), configuration.router().listen.tcp());
        let own = api.into_iter().chain(router).map(|tcp| tcp.host.as_str());
        Self::of(own.chain(fleet.iter().map(|spec| &*spec.host))).await
    }

    async fn of(hosts: impl Iterator<Item = &str>) -> Self {
        let names: BTreeSet<&str> = hosts.flat_map(entries).filter(|entry| is_name(entry)).collect();
        let (turns, until) = (Arc::new(Semaphore::new(ASKED_AT_ONCE)), Instant::now() + LONGEST);
        let mut questions = JoinSet::new();
        for name in names {
            let (name, turns) = (name.to_owned(), Arc::clone(&turns));
            questions.spawn(async move {
                let asked = async {
                    // Fails if it is closed, which nobody does.
                    let _turn = turns.acquire().await;
                    addresses(name.clone()).await
                };
                let silent = |_| Err(format!("no answer within {} s", LONGEST.as_secs()));
                let found = timeout_at(until, asked).await.unwrap_or_else(silent);
                (name, found)
            });
        }
        Self(questions.join_all().await.into_iter().collect())
    }

    /// A warning for each address on which the daemon or its router could not listen at this moment.
    pub fn listen_warnings(&self, configuration: &Configuration) -> Vec<ConfigProblem> {
        configuration.listen_warnings(|host| self.unavailable(host, NO_START))
    }

    /// The addresses of each entry of a `host` that was looked up, but for sockets.
    ///
    /// # Errors
    /// A name has none.
    pub fn addresses(&self, host: &str) -> Result<Vec<Vec<IpAddr>>, String> {
        let of = |entry: &str| self.of_entry(entry).unwrap_or_else(|| Err(format!("`{entry}` is no name")));
        entries(host).filter(|entry| !entry.ends_with(".sock")).map(of).collect()
    }

    /// The addresses of an entry, or why it has none; `None` for a name that was not looked up.
    fn of_entry(&self, entry: &str) -> Option<Result<Vec<IpAddr>, String>> {
        entry.parse().map_or_else(|_| self.0.get(entry).cloned(), |number| Some(Ok(vec![number])))
    }

    /// Why no server can listen on `host` at this moment, and what to do.
    pub(crate) fn of_server(&self, host: &str) -> Option<[String; 2]> {
        self.unavailable(host, LAUNCH_WAITS)
    }

    fn unavailable(&self, host: &str, otherwise: &str) -> Option<[String; 2]> {
        entries(host).find_map(|entry| {
            if entry.ends_with(".sock") {
                let folder = Path::new(entry).parent()?;
                let error = folder.metadata().err()?;
                let message = format!("the folder of the socket {entry} cannot be used: {error}");
                return Some([message, format!("`mkdir {}`; {otherwise}", folder.display())]);
            }
            let addresses = match self.of_entry(entry)? {
                Ok(addresses) => addresses,
                Err(error) => {
                    let help =
                        format!("write an address, or a name that this machine resolves (`getent hosts {entry}`)");
                    return Some([format!("`{entry}` cannot be resolved: {error}"), format!("{help}; {otherwise}")]);
                }
            };
            let error = foreign(&addresses)?;
            let shown = if is_name(entry) { format!(" ({})", addresses[0]) } else { String::new() };
            let help = format!("write an address that `ip address` shows; {otherwise}");
            Some([format!("cannot listen on `{entry}`{shown}: {error}"), help])
        })
    }
}

/// The entries of a value of `host`, an IPv6 number without its brackets.
fn entries(host: &str) -> impl Iterator<Item = &str> {
    host.split(',').map(|entry| entry.trim().trim_start_matches('[').trim_end_matches(']'))
}

fn is_name(entry: &str) -> bool {
    !entry.is_empty() && !entry.ends_with(".sock") && entry.parse::<IpAddr>().is_err()
}

/// The addresses of a name. The thread that asks is left alone where it takes too long.
async fn addresses(name: String) -> Result<Vec<IpAddr>, String> {
    let (found, answer) = oneshot::channel();
    let asking = thread::Builder::new().name("host-lookup".to_owned()).spawn(move || {
        let addresses = (name.as_str(), 0).to_socket_addrs();
        // Fails if nobody waits any more.
        let _ = found.send(addresses.map(|addresses| addresses.map(|address| address.ip()).collect()));
    });
    asking.map_err(|error| error.to_string())?;
    let found = answer.await.map_err(|_| "the look-up ended without an answer".to_owned())?;
    found.map_err(|error| error.to_string())
}

/// The error of each address, if none of them is one of this machine.
fn foreign(addresses: &[IpAddr]) -> Option<std::io::Error> {
    let mut latest = None;
    for address in addresses {
        latest =
            Some(TcpListener::bind((*address, 0)).err().filter(|error| error.kind() == ErrorKind::AddrNotAvailable)?);
    }
    latest
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn known(found: &[(&str, Result<&str, &str>)]) -> HostNames {
        let address = |address: &str| vec![address.parse().expect("a number")];
        let known = found.iter().map(|(name, found)| ((*name).to_owned(), found.map(address).map_err(str::to_owned)));
        HostNames(known.collect())
    }

    #[test]
    fn a_name_without_an_address_or_with_one_of_another_machine_is_told_and_no_other() {
        let names = known(&[
            ("here", Ok("127.0.0.1")),
            ("elsewhere", Ok("192.0.2.77")),
            ("nowhere", Err("Name or service not known")),
        ]);
        for host in ["here", "127.0.0.1", "here, 0.0.0.0", "[::]", "/tmp/a.sock"] {
            assert_eq!(names.of_server(host), None, "{host}");
        }
        for (host, expected) in [
            ("nowhere", "`nowhere` cannot be resolved: Name or service not known"),
            ("127.0.0.1, nowhere", "`nowhere` cannot be resolved"),
            ("elsewhere", "cannot listen on `elsewhere` (192.0.2.77): "),
            ("192.0.2.77", "cannot listen on `192.0.2.77`: "),
            ("/no/such/folder/a.sock", "the folder of the socket"),
        ] {
            let [message, help] = names.of_server(host).expect(host);
            assert!(message.starts_with(expected), "{message}");
            assert!(help.ends_with(LAUNCH_WAITS), "{help}");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_and_numbers_are_not() {
        let names = HostNames::of(["localhost", "127.0.0.1, [::1]", "/a.sock", "", "no such name"].into_iter()).await;
        assert_eq!(names.0.keys().collect::<Vec<_>>(), ["localhost", "no such name"]);
        assert!(names.0["localhost"].is_ok() && names.0["no such name"].is_err(), "{names:?}");
        let each = names.addresses("[::1], 127.0.0.1,/a.sock").expect("numbers");
        assert_eq!(each, [[IpAddr::V6(Ipv6Addr::LOCALHOST)], [IpAddr::V4(Ipv4Addr::LOCALHOST)]]);
        assert!(names.addresses("localhost").is_ok() && names.addresses("127.0.0.1, no such name").is_err());
        assert_eq!(names.addresses(""), Err("`` is no name".to_owned()));
    }

    #[tokio::test]
    async fn a_configuration_without_names_waits_for_nothing() {
        let began = Instant::now();
        let names = HostNames::of(["127.0.0.1"].into_iter()).await;
        assert!(names.0.is_empty() && began.elapsed() < LONGEST);
    }
}
