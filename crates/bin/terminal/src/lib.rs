//! Output for a person at a terminal: tables that fit its width and height, and lines in which only colours act.
//!
//! [`table`] lays out columns, [`status_table`] the servers in the words of [`server_text`], [`canary_table`] two builds,
//! [`live_table`] draws it again with each change, and [`fleet_view`] does so for a daemon of this process. [`output`] is the one way by which commands print: data to standard
//! output, everything else to standard error, where [`advice`] completes the commands that a text names.

pub mod advice;
pub mod all_table;
pub mod canary_table;
pub mod daemon_log;
pub mod fleet_view;
pub mod interruption;
pub mod live_table;
pub mod natural_order;
pub mod output;
pub mod request_text;
pub mod screen;
pub mod server_order;
pub mod server_text;
pub mod status_table;
pub mod table;
