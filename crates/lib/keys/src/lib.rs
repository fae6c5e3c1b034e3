//! The keys of the router's clients: what a key file says, whose key a request has, and what its holder may do.
//!
//! The file holds the SHA-256 of each key, never a key. A key is 256 random bits, so no slow hash is needed, and it is looked up by
//! its hash, so no secret is compared byte by byte.
//!
//! * [`read_keys`] reads a file into a [`KeyRing`]; [`KeyRing::holder`] finds the [`ClientKey`] of a request.
//! * [`NewKey`] is a key that does not exist yet; [`append_key`] adds it to a file.

mod append;
mod file;
mod ring;

pub use append::{KeyGrant, KeyNotAdded, NewKey, NoKey, append_key};
pub use file::{KeysUnusable, parse_keys, read_keys};
pub use ring::{ClientKey, KeyHash, KeyInUse, KeyRing};
