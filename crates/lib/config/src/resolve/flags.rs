//! Whose value of an option wins: `[flags]`, then the profile, then the server.

use std::sync::Arc;

use llama_warden_fleet::{Flag, FlagOrigin, FlagValue, Flags};

use crate::file::flag_table::FlagTable;
use crate::file::reader::Located;
use llama_warden_fleet::HostEnvironment;

/// The options of one server alone, by name; few or none.
pub(crate) type OwnFlags = Box<[(String, FlagValue)]>;

/// A table as options of one server.
pub(crate) fn own(table: &FlagTable) -> OwnFlags {
    table.0.iter().map(|(name, at)| (name.clone(), at.value.clone())).collect()
}

/// The options of several tables: the later one wins, name by name.
pub(crate) fn merge(tables: [Option<&FlagTable>; 2], host: &HostEnvironment) -> Arc<Flags> {
    let entries = tables.into_iter().flatten().flat_map(|table| &table.0);
    Flags::from_iter(entries.map(|(name, at)| (name.clone(), flag(name, at, host)))).into()
}

/// The options of one server over `common`; `common` itself, not a copy, if the server has none.
pub(crate) fn with_own(common: &Arc<Flags>, own: &OwnFlags) -> Arc<Flags> {
    let mut flags = Arc::clone(common);
    if !own.is_empty() {
        let user = |value: &FlagValue| Flag { value: value.clone(), origin: FlagOrigin::User };
        Arc::make_mut(&mut flags).extend(own.iter().map(|(name, value)| (name.clone(), user(value))));
    }
    flags
}

fn flag(name: &str, at: &Located<FlagValue>, host: &HostEnvironment) -> Flag {
    if !at.location.is_built_in() {
        return Flag { value: at.value.clone(), origin: FlagOrigin::User };
    }
    let value = match &at.value {
        FlagValue::Integer(threads) if name == "threads" => {
            let cpus = i64::try_from(host.cpus.max(1)).unwrap_or(i64::MAX);
            FlagValue::Integer(cpus.min(*threads))
        }
        value => value.clone(),
    };
    Flag { value, origin: FlagOrigin::BuiltIn }
}
