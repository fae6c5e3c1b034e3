//! `detector list`: every pack, in order of precedence.

use llama_warden_readiness::{BuildRange, Pack, Survey};

use super::{describe, described, origin, survey};
use crate::cli::args::Global;
use crate::cli::{print_json, print_line};
use crate::exit::{Exit, Failure};
use crate::table;

pub fn run(global: &Global) -> Result<Exit, Failure> {
    let Survey { library, refused } = survey(global)?;
    if global.json {
        let packs = library.iter().map(|pack| {
            let mut data = described(pack);
            data.insert("patterns".to_owned(), pack.patterns().len().into());
            data.insert("examples".to_owned(), pack.examples().len().into());
            data
        });
        print_json(&packs.collect::<Vec<_>>())?;
    } else {
        let rows = library
            .iter()
            .map(|pack| [pack.name().to_owned(), fits(pack), origin(pack), pack.description().to_owned()]);
        print_line(table::plain(["PACK", "FITS", "FROM", "DESCRIPTION"], rows))?;
    }
    refused.iter().for_each(|error| eprintln!("error: {}", describe(error)));
    Ok(if refused.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The builds that a pack fits, for people.
fn fits(pack: &Pack) -> String {
    let builds = pack.builds().map(|builds| match builds {
        BuildRange { min: Some(min), max: Some(max) } if min == max => format!("b{min}"),
        BuildRange { min: Some(min), max: Some(max) } => format!("b{min} to b{max}"),
        BuildRange { min: Some(min), max: None } => format!("from b{min}"),
        BuildRange { min: None, max: Some(max) } => format!("to b{max}"),
        BuildRange { min: None, max: None } => "numbered builds".to_owned(),
    });
    let options =
        |sign: char, options: &[String]| options.iter().map(|option| format!("{sign}{option}")).collect::<Vec<_>>();
    let options = [options('+', pack.help_lists()), options('-', pack.help_lacks())].concat();
    let shown = match options.len() {
        0 => None,
        1..=4 => Some(options.join(" ")),
        more => Some(format!("{} and {} more", options[..3].join(" "), more - 3)),
    };
    let parts: Vec<String> = builds.into_iter().chain(shown).collect();
    if parts.is_empty() { "every build".to_owned() } else { parts.join(", ") }
}
