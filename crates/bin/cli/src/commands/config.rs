//! `config`: prints a template of the configuration, or what is in force. Needs no daemon.

use llama_warden_config::{DEFAULT_TOML, Environment, ValueInForce, values_in_force};
use llama_warden_connect::GlobalArgs;
use llama_warden_exit::{CommandResult, Exit};
use llama_warden_inventory::LoadedConfig;

use crate::args::ConfigCommand;
use llama_warden_terminal::output::{print_either, print_line};
use llama_warden_terminal::table::{self, shrinks, whole};

pub fn run(global: &GlobalArgs, command: ConfigCommand) -> CommandResult {
    match command {
        ConfigCommand::Init => {
            print_line(template())?;
            Ok(Exit::Done)
        }
        ConfigCommand::Show => show(global),
    }
}

fn show(global: &GlobalArgs) -> CommandResult {
    let loaded = LoadedConfig::find(global.config.as_deref())?;
    let values = values_in_force(&loaded.source, &Environment::current())?;
    print_either(global.json, &values, || {
        let row = |value: &ValueInForce| [value.key.clone(), value.value.clone(), value.from.clone()];
        table::list([whole("KEY"), shrinks("VALUE", 16), shrinks("FROM", 16)], values.iter().map(row))
    })
}

/// The built-in defaults with each key commented out. A file that only repeats them would fix what they are today.
fn template() -> String {
    let commented = |line: &str| match line {
        "" => String::new(),
        line if line.starts_with(['#', '[']) => line.to_owned(),
        key => format!("#{key}"),
    };
    let lines: Vec<_> = DEFAULT_TOML.trim_end().lines().map(commented).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use llama_warden_config::{ConfigSource, Configuration};

    use super::*;

    #[test]
    fn the_template_is_a_configuration_that_changes_nothing() {
        let template = template();
        let source = ConfigSource::text("/", template.as_str());
        Configuration::parse(&source, &Environment::default()).expect("valid");
        let from = |source| {
            let values = values_in_force(&source, &Environment::default()).expect("valid");
            values.into_iter().map(|value| value.from).collect::<Vec<_>>()
        };
        assert_eq!(from(source), from(ConfigSource::none("/")));
        assert!(
            template.contains("\n[daemon]\n") && template.contains("\n#listen = \"127.0.0.1:9888\"\n"),
            "{template}"
        );
    }
}
