//! Flag dialects: a dialect that is taken is read again to the same dialect, and spells the options of a server without showing
//! its secrets.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use llama_warden_component_kit::spec;
use llama_warden_config::ServerSpec;
use llama_warden_dialects::{BinaryProfile, BuildVersion, Dialect, DialectSet, OptionList, draft_command_line};
use llama_warden_plugin_files::PluginFile as _;

use crate::check_place;

/// The secret of [`SERVER`].
pub(crate) const SECRET: &str = "sk-fuzz-0123456789";

/// A server with options of every type.
pub(crate) static SERVER: LazyLock<Arc<ServerSpec>> = LazyLock::new(|| {
    let flags = "flags = { ctx-size = 8192, flash-attn = true, mmap = false, api-key = 'sk-fuzz-0123456789', temp = 0.5, \
                 tensor-split = [1, 2], alias = 'a', lora = ['/l/a.gguf', '/l/b.gguf'], n-gpu-layers = 'default' }";
    spec("fuzz", &format!("port = 8001\n{flags}\nargs = ['--seed', '1']"))
});

/// A build that lists some of them.
static BUILD: LazyLock<BinaryProfile> = LazyLock::new(|| {
    let help = "-m, --model FNAME    model\n--host HOST    address\n--port PORT    port\n--api-key KEY    key\n\
                -fa, --flash-attn [on|off|auto]    attention\n-lm, --load-mode MODE    how\n-c, --ctx-size N    context\n";
    BinaryProfile::new(
        "/opt/llama-server".into(),
        BuildVersion { build: Some(9000), commit: None },
        Some(OptionList::parse(help)),
    )
});

/// Reads the input as a flag dialect.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let dialects = DialectSet::built_in();
    let path = Path::new("fuzz.toml");
    match dialects.parse(path, &text) {
        Ok(dialect) => {
            assert_eq!(dialect.text(), text);
            let again =
                dialects.parse(path, dialect.text()).unwrap_or_else(|error| panic!("not a second time: {error}"));
            assert_eq!(again.info(), dialect.info());
            check_spelling(&BUILD, &dialect);
            check_spelling(&BinaryProfile::unknown("/opt/llama-server".into()), &dialect);
        }
        Err(error) => {
            check_place(&text, error.line, error.column);
            assert!(!error.message.is_empty() && !error.advice.is_empty(), "{error}");
        }
    }
}

/// Spells the options of [`SERVER`]: the kernel can pass every argument, and nothing that is shown has the secret in it.
pub(crate) fn check_spelling(binary: &BinaryProfile, dialect: &Dialect) {
    let (line, errors) = draft_command_line(&SERVER, binary, dialect);
    for argument in &line.arguments {
        assert!(!argument.as_encoded_bytes().contains(&0), "{argument:?} cannot be passed");
    }
    let errors = errors.iter().chain(&line.doubts).map(|error| format!("{error:?}"));
    let notes = line.notes.iter().map(|note| format!("{note:?}"));
    for shown in line.redacted().into_iter().chain(line.warnings.clone()).chain(notes).chain(errors) {
        assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
    }
}
