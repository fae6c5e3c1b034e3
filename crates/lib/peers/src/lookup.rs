//! Looks up the name of a peer.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Mutex;
use std::thread;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use llama_warden_fleet::TcpAddress;
use llama_warden_support::lock;
use tokio::sync::oneshot;

/// What a look-up finds, or why it finds nothing.
type FoundAddresses = Result<Vec<SocketAddr>, String>;

/// The look-up of one name. It has a thread of its own: a name server that does not answer holds the thread for half a minute, and
/// the daemon has two threads for all its files. A second question joins the first.
#[derive(Debug, Default)]
pub(crate) struct Lookup(Mutex<Option<Shared<BoxFuture<'static, FoundAddresses>>>>);

impl Lookup {
    /// The addresses of a peer.
    pub(crate) async fn of(&self, address: &TcpAddress) -> FoundAddresses {
        if let Ok(number) = address.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(number, address.port)]);
        }
        let looking = {
            let mut latest = lock(&self.0);
            let looking = match latest.take().filter(|running| running.peek().is_none()) {
                Some(running) => running,
                None => look_up(address.clone()).map_err(|error| error.to_string())?,
            };
            latest.insert(looking).clone()
        };
        looking.await
    }
}

fn look_up(address: TcpAddress) -> io::Result<Shared<BoxFuture<'static, FoundAddresses>>> {
    let (found, answer) = oneshot::channel();
    thread::Builder::new().name("peer-lookup".to_owned()).spawn(move || {
        let addresses = (address.host.as_str(), address.port).to_socket_addrs().map(Vec::from_iter);
        // Fails if nobody waits any more.
        let _ = found.send(addresses.map_err(|error| error.to_string()));
    })?;
    let gone = || Err("the look-up ended without an answer".to_owned());
    Ok(answer.map(move |found| found.unwrap_or_else(|_| gone())).boxed().shared())
}
