//! `key`: makes keys for clients of the router, and lists them. Needs no daemon; one that runs reads the file again by itself.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use llama_warden_connect::GlobalArgs;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_inventory::LoadedConfig;
use llama_warden_keys::{KeyGrant, KeyNotAdded, NewKey, append_key, read_keys};
use llama_warden_terminal::output::{print_either, print_json, print_line, print_note};
use llama_warden_terminal::table::{self, shrinks, whole};
use serde_json::json;

use crate::args::key::{KeyCommand, NewKeyArgs};

/// Most bytes of a line with a key.
const LONGEST_LINE: u64 = 4096;

pub fn run(global: &GlobalArgs, command: &KeyCommand) -> CommandResult {
    match command {
        KeyCommand::New(args) => make(global, args),
        KeyCommand::List { file } => list(global, file.clone()),
    }
}

fn make(global: &GlobalArgs, args: &NewKeyArgs) -> CommandResult {
    let path = file(global, args.file.clone())?;
    let grant = KeyGrant {
        name: args.name.clone(),
        models: args.models.clone(),
        max_in_flight: args.max_in_flight,
        is_admin: args.admin,
    };
    let key = match args.existing {
        true => existing()?,
        false => NewKey::random().map_err(|error| CommandFailure::failed(format!("cannot make a key: {error}")))?,
    };
    append_key(&path, &grant, &key).map_err(|error| {
        let step = match &error {
            KeyNotAdded::Unusable(unusable) => unusable.next_step(),
            KeyNotAdded::NameTaken(_) => format!(
                "take another name; `llama-warden key list --file {}` shows those that are taken",
                path.display()
            ),
            KeyNotAdded::KeyTaken(_) => {
                format!("`llama-warden key list --file {}` shows what it may do", path.display())
            }
            KeyNotAdded::Unwritable { .. } => {
                "name a file in a folder that exists and can be written, with --file".to_owned()
            }
        };
        match error {
            KeyNotAdded::Unwritable { .. } => CommandFailure::failed(&error).next_step(step),
            _ => CommandFailure::usage(&error).next_step(step),
        }
    })?;
    // Who has it already needs not see it.
    let shown = (!args.existing).then(|| key.text());
    if global.json {
        print_json(&json!({ "name": grant.name, "key": shown, "file": path }))?;
    } else if let Some(text) = shown {
        print_line(text)?;
    }
    let once = if args.existing { "" } else { "the key is shown this once; " };
    print_note(format!("{once}its hash is in {}", path.display()));
    Ok(Exit::Done)
}

/// The key in the first line of standard input. Not an argument, which others of the machine could read.
fn existing() -> Result<NewKey, CommandFailure> {
    let mut line = String::new();
    let read = io::stdin().lock().take(LONGEST_LINE).read_line(&mut line);
    read.map_err(|error| CommandFailure::usage(format!("cannot read a key from standard input: {error}")))?;
    NewKey::existing(line.trim_end_matches(['\r', '\n'])).map_err(|error| {
        CommandFailure::usage(format!("standard input has no key in its first line: {error}"))
            .next_step("`llama-warden key new NAME` without --existing makes a key")
    })
}

fn list(global: &GlobalArgs, named: Option<PathBuf>) -> CommandResult {
    let ring = read_keys(&file(global, named)?).map_err(|error| {
        let step = error.next_step();
        CommandFailure::usage(error).next_step(step)
    })?;
    let keys = ring.sorted();
    let listed = keys.iter().map(|key| {
        json!({
            "name": &*key.name,
            "models": key.models().collect::<Vec<_>>(),
            "max_in_flight": key.max_in_flight,
            "admin": key.is_admin,
            "sha256": key.hash.to_string(),
        })
    });
    print_either(global.json, &listed.collect::<Vec<_>>(), || {
        let rows = keys.iter().map(|key| {
            let models = key.models().collect::<Vec<_>>().join(", ");
            let most = if key.max_in_flight == 0 { "any".to_owned() } else { key.max_in_flight.to_string() };
            [key.name.to_string(), models, most, if key.is_admin { "yes" } else { "no" }.to_owned()]
        });
        table::list([whole("NAME"), shrinks("MODELS", 16), whole("AT A TIME"), whole("ADMIN")], rows)
    })
}

/// The file of keys: the named one, else that of the configuration.
fn file(global: &GlobalArgs, named: Option<PathBuf>) -> Result<PathBuf, CommandFailure> {
    if let Some(path) = named {
        return Ok(path);
    }
    let configured = LoadedConfig::find(global.config.as_deref())?.configuration.router().keys_file.clone();
    configured.ok_or_else(|| {
        CommandFailure::usage("no file of keys is named")
            .next_step("name one with --file, and as `keys-file` in [router]")
    })
}
