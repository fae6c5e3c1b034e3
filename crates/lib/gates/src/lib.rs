//! The gates of the router: one per server, through which requests go to one launch of it.
//!
//! Pure: arrivals, launches, commands and the time go in, and [`GateAction`]s come out. The router is the shell that carries them out.
//!
//! * [`Gates`]: every gate, and what each input changes.
//! * `gate`: one of them: the launch that it leads to, what is in flight there, and who waits.
//! * `passing`: a request on its way through, and the actions that let it pass.
//! * `queue`: who waits, and whose turn it is.
//! * `pace`: how long requests work.

mod gate;
mod gates;
mod pace;
mod passing;
mod queue;

pub use gate::GateStanding;
pub use gates::Gates;
pub use passing::{AdmittedAs, Arrival, Arrived, GateAction, QueueClient, Ticket};
