//! The dashboard: a page for browsers, embedded as it is written.
//!
//! The files below `page/` are what a browser gets: HTML, CSS and JavaScript modules, without a build step and without a line of
//! others. They carry no data, so they need no token; the page asks the same API as every other client, with the token that the user
//! types in.
//!
//! * The page follows `/api/v1/events` to learn that something has changed, and reads `/api/v1/status` to learn what: the fold from
//!   events to state exists once, in the daemon.
//! * Text of servers enters the page as text alone. The content security policy admits no inline script and no inline style, and
//!   browsers that know trusted types refuse markup made of strings.

mod files;
mod route;

pub use files::DASHBOARD_ROUTE;
pub use route::dashboard_routes;
