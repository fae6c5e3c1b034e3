//! Keys by their hash, and what each may do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use globset::GlobMatcher;
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Self> {
        Some(Self(HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// A key of a client, and what its holder may do.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// The name of the holder; unique in its file.
    pub name: Arc<str>,
    /// The hash of the key.
    pub hash: KeyHash,
    /// Requests at a time; 0 = any number.
    pub max_in_flight: u32,
    /// Whether it may change servers: unload them, set their properties, their slots and adapters.
    pub is_admin: bool,
    pub(crate) models: Vec<GlobMatcher>,
    pub(crate) in_flight: Arc<AtomicU32>,
}

impl ClientKey {
    /// Whether it may use a server that has these names.
    pub fn allows<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        names.into_iter().any(|name| self.models.iter().any(|pattern| pattern.is_match(name)))
    }

    /// The patterns of the models that it may use.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|pattern| pattern.glob().glob())
    }

    /// A number that stands for the key among others.
    pub fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.hash.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Begins a request; `None` where as many are under way as may be.
    pub fn enter(&self) -> Option<KeyInUse> {
        let next =
            |count: u32| (self.max_in_flight == 0 || count < self.max_in_flight).then(|| count.saturating_add(1));
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(KeyInUse(self.in_flight.clone()))
    }
}

/// A request that is under way with a key. Dropping it ends it.
#[derive(Debug)]
pub struct KeyInUse(Arc<AtomicU32>);

impl Drop for KeyInUse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every key of a file.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    pub(crate) keys: HashMap<KeyHash, Arc<ClientKey>>,
}

impl KeyRing {
    /// The key that a request presents, as `Bearer`, as the password of `Basic`, in `x-api-key` or in `api-key`. Where it presents
    /// several, one that is known counts: clients send a placeholder in one header and the key in another.
    pub fn holder(&self, headers: &HeaderMap) -> Option<&Arc<ClientKey>> {
        let authorizations = headers.get_all(header::AUTHORIZATION).iter().filter_map(authorized);
        let named = ["x-api-key", "api-key"].into_iter().flat_map(|name| headers.get_all(name));
        let named = named.map(|value| value.as_bytes().trim_ascii().to_vec());
        authorizations.chain(named).find_map(|key| self.keys.get(&KeyHash::of(&key)))
    }

    /// The keys, by name.
    pub fn sorted(&self) -> Vec<&ClientKey> {
        let mut keys: Vec<&ClientKey> = self.keys.values().map(|key| &**key).collect();
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        keys
    }

    /// Whether another ring has the same keys with the same rights.
    pub fn is_same(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.sorted().into_iter().zip(other.sorted()).all(|(one, other)| {
                (&one.name, one.hash, one.max_in_flight, one.is_admin)
                    == (&other.name, other.hash, other.max_in_flight, other.is_admin)
                    && one.models().eq(other.models())
            })
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nobody has a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// In place of another ring: what is under way with a key that both have still counts.
    #[must_use]
    pub fn succeeding(mut self, former: &Self) -> Self {
        for (hash, key) in &mut self.keys {
            if let Some(known) = former.keys.get(hash) {
                *key = Arc::new(ClientKey { in_flight: known.in_flight.clone(), ..ClientKey::clone(key) });
            }
        }
        self
    }
}

/// The key in an `Authorization` header.
fn authorized(value: &HeaderValue) -> Option<Vec<u8>> {
    let value = value.as_bytes().trim_ascii();
    let (scheme, rest) = value.split_at(value.iter().position(u8::is_ascii_whitespace)?);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = BASE64.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_keys;

    fn ring(further: &str) -> KeyRing {
        let text = format!("[[keys]]\nname = 'a'\nsha256 = '{}'\n{further}", KeyHash::of(b"s3cret"));
        parse_keys("keys", &text).expect("valid")
    }

    fn holds(ring: &KeyRing, headers: &[(&'static str, &'static str)]) -> bool {
        let pairs =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        ring.holder(&map).is_some()
    }

    #[test]
    fn a_key_is_taken_from_every_place_where_clients_put_it() {
        let ring = ring("");
        for headers in [
            [("authorization", "Bearer s3cret")],
            [("authorization", "bearer  s3cret ")],
            // user:s3cret
            [("authorization", "Basic dXNlcjpzM2NyZXQ=")],
            [("x-api-key", "s3cret")],
            [("api-key", " s3cret")],
        ] {
            assert!(holds(&ring, &headers), "{headers:?}");
        }
        assert!(holds(&ring, &[("authorization", "Bearer placeholder"), ("x-api-key", "s3cret")]));
        for headers in [
            ("authorization", "Bearer s3cret2"),
            ("authorization", "Bearer"),
            ("authorization", "s3cret"),
            ("authorization", "Digest s3cret"),
            // s3cret:
            ("authorization", "Basic czNjcmV0Og=="),
            ("authorization", "Basic !"),
            ("x-api-key", ""),
            ("cookie", "s3cret"),
        ] {
            assert!(!holds(&ring, &[headers]), "{headers:?}");
        }
        assert!(!holds(&ring, &[]));
        assert!(!holds(&KeyRing::default(), &[("x-api-key", "s3cret")]));
    }

    #[test]
    fn a_key_is_in_use_as_often_as_it_may_also_over_a_change_of_its_file() {
        let former = ring("max-in-flight = 2");
        let key = former.sorted()[0].clone();
        let first = key.enter().expect("the first");
        let ring = ring("max-in-flight = 2\nadmin = true").succeeding(&former);
        let key = ring.sorted()[0].clone();
        let _second = key.enter().expect("the second");
        assert!(key.enter().is_none());
        drop(first);
        assert!(key.enter().is_some());
        assert!(key.is_admin);
    }

    #[test]
    fn a_key_allows_the_models_that_its_patterns_name() {
        let ring = ring("models = ['qwen*', 'embed']");
        let key = ring.sorted()[0];
        for (names, allowed) in
            [(&["qwen3"][..], true), (&["org/x", "embed"], true), (&["embed2"], false), (&["x", "Qwen"], false)]
        {
            assert_eq!(key.allows(names.iter().copied()), allowed, "{names:?}");
        }
    }
}
