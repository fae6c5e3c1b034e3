//! The output of `--version` and `--help`, in the layout of each era.

use std::{fmt::Write, process::ExitCode};

use crate::{
    eras::Era,
    options::{self, CliOption},
    output::{self, Stream},
    renames::Renames,
};

/// The column at which the help text of an option begins, in the layout since late 2024.
const HELP_COLUMN: usize = 40;

/// Prints the version to stderr.
pub(crate) fn version(era: Era) -> ExitCode {
    let architecture = std::env::consts::ARCH;
    let text = if era == Era::B11669 {
        format!("version: 0.7.0 (build 11669, commit stand-in)\nbuilt with rustc for Linux {architecture}\n")
    } else {
        format!("version: 1 (stand-in)\nbuilt with rustc for {architecture}-linux-gnu\n")
    };
    output::write(Stream::Stderr, &text);
    ExitCode::SUCCESS
}

/// Prints the help to stdout. Builds of mid 2024 exit with 1 after it.
pub(crate) fn help(era: Era, renames: &Renames) -> ExitCode {
    output::write(Stream::Stdout, usage(era, renames));
    if era == Era::July2024 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The whole help text.
pub(crate) fn usage(era: Era, renames: &Renames) -> String {
    let mut text = match era {
        Era::December2023 => "usage: llama-server [options]\n\noptions:\n".to_owned(),
        Era::July2024 => "usage: llama-server [options]\n\ngeneral:\n\n".to_owned(),
        Era::November2024 | Era::August2025 | Era::B11669 => "----- common params -----\n\n".to_owned(),
    };
    for option in options::of(era) {
        if era >= Era::November2024 && option.key() == "--alias" {
            text.push_str("\n\n----- example-specific params -----\n\n");
        }
        text.push_str(&entry(era, renames, option));
    }
    text
}

/// The help of one option.
pub(crate) fn entry(era: Era, renames: &Renames, option: &CliOption) -> String {
    match era {
        Era::December2023 => entry_of_2023(renames, option),
        Era::July2024 => entry_of_mid_2024(renames, option),
        Era::November2024 | Era::August2025 | Era::B11669 => entry_of_today(renames, option),
    }
}

fn entry_of_2023(renames: &Renames, option: &CliOption) -> String {
    let with_value = |name: &&str| match option.argument.metavariable() {
        Some(value) => format!("{} {value}", renames.new_name(name)),
        None => renames.new_name(name).to_owned(),
    };
    let names: Vec<String> = option.names.iter().map(with_value).collect();
    format!("  {:<23} {}\n", names.join(", "), option.help)
}

fn entry_of_mid_2024(renames: &Renames, option: &CliOption) -> String {
    let short = option.short().map(|name| format!("{name},")).unwrap_or_default();
    let left = format!("  {short:<7}{}", long_names(renames, option));
    if left.len() < 33 {
        format!("{left:<33} {}\n", option.help)
    } else {
        format!("{left}\n{:34}{}\n", "", option.help)
    }
}

fn entry_of_today(renames: &Renames, option: &CliOption) -> String {
    let left = match option.short() {
        Some(short) => format!("{:<7}{}", format!("{short},"), long_names(renames, option)),
        None => long_names(renames, option),
    };
    let mut text = if left.len() < HELP_COLUMN {
        format!("{left:<HELP_COLUMN$}{}\n", option.help)
    } else {
        format!("{left}\n{:HELP_COLUMN$}{}\n", "", option.help)
    };
    if let Some(variable) = option.variable {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{:HELP_COLUMN$}(env: {variable})", "");
    }
    text
}

fn long_names(renames: &Renames, option: &CliOption) -> String {
    let names: Vec<&str> = option.long().map(|name| renames.new_name(name)).collect();
    match option.argument.metavariable() {
        Some(value) => format!("{} {value}", names.join(", ")),
        None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_layout_of_the_real_help() {
        let entry_of = |era, name| entry(era, &Renames::default(), options::named(era, name).unwrap());
        assert_eq!(
            entry_of(Era::B11669, "-fa").lines().next().unwrap(),
            "-fa,   --flash-attn [on|off|auto]       set Flash Attention use (default: 'auto')"
        );
        assert_eq!(entry_of(Era::August2025, "--log-disable"), format!("{:40}Log disable\n", "--log-disable"));
        assert_eq!(entry_of(Era::July2024, "-b"), "  -b,    --batch-size N           logical maximum batch size\n");
        assert_eq!(entry_of(Era::December2023, "--port"), "  --port PORT             port to listen\n");
    }
}
