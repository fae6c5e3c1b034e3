//! Which user of this machine is at the other end of a loopback connection.
//!
//! Every process of the machine can connect to the loopback address, and a daemon of root's launches programs as root. The kernel
//! knows the user of the peer's socket, so a client needs no token where it is the daemon's own user, or root.

use http::StatusCode;
use llama_warden_api_types::ApiProblem;
use llama_warden_http_server::{TcpEnds, admits};
use llama_warden_procfs::peer_user;
use llama_warden_support::blocking;

/// Refuses a peer that belongs neither to `user` nor to root.
pub(crate) async fn check_local_user(ends: TcpEnds, user: u32) -> Result<(), ApiProblem> {
    // A kernel that has to be asked through `/proc/net` prints every connection of the machine.
    let found = blocking(move || peer_user(ends.local, ends.peer)).await;
    match found.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(peer) => check_peer(user, peer),
        Err(error) => {
            let detail = format!("cannot find out which user asks: {error}");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiProblem::new(status, "user-unknown", "user not found", detail).next_step(NEXT_STEP))
        }
    }
}

const NEXT_STEP: &str =
    "ask over the control socket in the state directory, or set in [daemon] a `token-file`, or `local-users = \"any\"`";

/// Checks the user of a peer; `None` if no process of this machine has its socket open.
fn check_peer(user: u32, peer: Option<u32>) -> Result<(), ApiProblem> {
    let asks = match peer {
        Some(peer) if admits(user, peer) => return Ok(()),
        Some(peer) => format!("a process of user {peer} asks"),
        None => "no process of this machine is found that asks".to_owned(),
    };
    let detail = format!("{asks}; without a token the daemon serves only its own user ({user}) and root here");
    Err(ApiProblem::new(StatusCode::FORBIDDEN, "foreign-user", "user not served", detail).next_step(NEXT_STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault S29.
    #[test]
    fn only_the_daemons_user_and_root_are_served() {
        for served in [0, 1000] {
            assert_eq!(check_peer(1000, Some(served)), Ok(()), "{served}");
        }
        for refused in [Some(1001), Some(65_534), None] {
            let problem = check_peer(1000, refused).expect_err("another user");
            assert_eq!((problem.status, problem.reason.as_str()), (403, "foreign-user"));
            let next_step = problem.next_step.expect("says what to do");
            assert!(next_step.contains("local-users") && next_step.contains("token-file"), "{next_step}");
        }
        assert!(check_peer(0, Some(1000)).is_err(), "root's daemon");
    }
}
