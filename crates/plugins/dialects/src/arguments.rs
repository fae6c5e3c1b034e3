//! Reads arguments as one build of llama-server does, and finds what it would not take: unknown options, values that do not fit,
//! and files that are not there.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use llama_warden_config::{WrittenAt, nearest};
use llama_warden_support::{open_if_regular, read_bounded};

use crate::help::{ListForm, OptionList};
use crate::option_error::OptionError;
use crate::own_settings;
use crate::translate::Translator;

/// Short names of options whose value is a file, for a build whose help cannot be read.
const SHORT_NAMES: [(&str, &str); 6] = [
    ("md", "model-draft"),
    ("mm", "mmproj"),
    ("mv", "model-vocoder"),
    ("jf", "json-schema-file"),
    ("lcs", "lookup-cache-static"),
    ("f", "file"),
];

/// A file or folder that a server reads when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// The option as it is passed, with its dashes.
    pub option: String,
    /// The path; a relative one is relative to the folder of the daemon.
    pub path: PathBuf,
    /// Where it is written.
    pub at: WrittenAt,
}

/// The options that name a file in PEM format, and what it has to have.
const PEM_OPTIONS: [(&str, &str); 2] = [("ssl-cert-file", "CERTIFICATE"), ("ssl-key-file", "PRIVATE KEY")];

/// Most of a file in PEM format that is read, in bytes.
const MOST_PEM: u64 = 1 << 20;

impl InputFile {
    /// Looks for it; into a certificate or a key for TLS, of which a build says nothing but that it cannot listen.
    ///
    /// # Errors
    /// The error of the kernel; [`io::ErrorKind::InvalidData`] if it is no certificate or no key.
    pub fn look(&self) -> io::Result<()> {
        // With dashes, with underscores, or as a variable.
        let name = self.option.to_ascii_lowercase().replace('_', "-");
        let Some((_, what)) = PEM_OPTIONS.iter().find(|(option, _)| name.ends_with(option)) else {
            return self.path.metadata().map(drop);
        };
        let Some(file) = open_if_regular(&self.path)? else { return Ok(()) };
        let text = read_bounded(file, MOST_PEM)?;
        let begins = |line: &[u8]| {
            line.starts_with(b"-----BEGIN ") && line.windows(what.len()).any(|part| part == what.as_bytes())
        };
        if text.split(|byte| *byte == b'\n').any(begins) {
            return Ok(());
        }
        let what = what.to_lowercase();
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has no {what} in PEM format (`-----BEGIN …`)")))
    }
}

/// One argument, or an option with its values.
struct ReadArgument<'a> {
    index: usize,
    /// As it is written, without a value behind `=` or a blank, which may be a secret.
    written: &'a str,
    /// The long name of an option, without dashes; `None` for an argument that belongs to none.
    name: Option<String>,
    values: Vec<&'a str>,
    /// The value stands behind `=` or a blank in one argument, which no known build takes.
    is_joined: bool,
    /// Values that the option needs and does not have.
    missing: usize,
}

/// Reads `arguments` as the build does that lists `listed`.
fn read<'a>(arguments: &'a [String], listed: &OptionList) -> Vec<ReadArgument<'a>> {
    let mut found = Vec::new();
    let mut rest = arguments.iter().enumerate().peekable();
    while let Some((index, argument)) = rest.next() {
        if !is_option(argument) {
            let (values, is_joined, missing) = (Vec::new(), false, 0);
            found.push(ReadArgument { index, written: argument, name: None, values, is_joined, missing });
            continue;
        }
        let (written, joined) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        let (written, has_blank) = match written.split_once(char::is_whitespace) {
            Some((name, _)) => (name, true),
            None => (written, false),
        };
        let name = long_name(written, listed);
        let wanted = match (joined, listed.value_count(&name)) {
            _ if has_blank => 0,
            (Some(_), _) => 0,
            (None, Some(count)) => count,
            (None, None) => 1,
        };
        let mut values: Vec<&str> = joined.into_iter().collect();
        while values.len() < wanted
            && let Some((_, value)) = rest.next_if(|(_, next)| !is_option(next))
        {
            values.push(value);
        }
        let is_listed = listed.lists(&name);
        let is_joined = joined.is_some() || has_blank;
        let missing = if !is_joined && is_listed { wanted - values.len() } else { 0 };
        found.push(ReadArgument { index, written, name: Some(name), values, is_joined, missing });
    }
    found
}

impl Translator<'_> {
    /// What the build makes an end of, or may not understand, among verbatim arguments. Options that `own_settings` refuses are
    /// left to it.
    pub(crate) fn argument_problems(&self, arguments: &[String]) -> Vec<(OptionError, Certainty)> {
        let mut problems = Vec::new();
        for read in read(arguments, self.listed) {
            let at = WrittenAt::Argument(read.index);
            let mut tell = |certainty, option: &str, detail: String| {
                problems.push((OptionError::new(option, format!("in `args`, {detail}")).at(at.clone()), certainty));
            };
            let Some(name) = read.name.as_deref() else {
                let detail = "it is the value of no option; remove it, or write the option in front of it";
                // Its text may be a secret that lost its option.
                tell(Certainty::Sure, &format!("args[{}]", read.index), detail.to_owned());
                continue;
            };
            if own_settings::flag_problem(name).is_some() {
                continue;
            }
            if let Some(detail) = self.name_problem(&read, name) {
                tell(Certainty::Sure, read.written, detail);
            } else if read.missing > 0 {
                tell(Certainty::Sure, read.written, "it has no value; write the value behind it".to_owned());
            }
            for doubt in read.values.iter().filter_map(|value| self.listed.doubt_of(name, value)) {
                tell(Certainty::Doubt, read.written, doubt);
            }
        }
        problems
    }

    /// The doubts about the values of `arguments`, which spell the flag `option`.
    pub(crate) fn value_doubts(&self, option: &str, arguments: &[String]) -> Vec<OptionError> {
        let read = read(arguments, self.listed);
        let values = read.iter().flat_map(|read| read.values.iter().map(move |value| (read, value)));
        let doubts = values.filter_map(|(read, value)| self.listed.doubt_of(read.name.as_deref()?, value));
        doubts.map(|doubt| OptionError::new(option, doubt)).collect()
    }

    /// The files that a server with `arguments` reads; `at` tells where the argument of an index is written.
    pub(crate) fn input_files(&self, arguments: &[String], at: impl Fn(usize) -> WrittenAt) -> Vec<InputFile> {
        let mut files = Vec::new();
        for read in read(arguments, self.listed) {
            let Some(name) = read.name.as_deref().filter(|name| self.dialect.reads(name)) else { continue };
            if own_settings::flag_problem(name).is_some() {
                continue;
            }
            let is_list = matches!(self.listed.list_form(name), Some(ListForm::Joined(',') | ListForm::Described(',')));
            // Of several words, the first is the path: `FNAME SCALE`.
            let value = read.values.first().copied().unwrap_or_default();
            let parts: Vec<&str> = if is_list { value.split(',').collect() } else { vec![value] };
            for path in parts.into_iter().map(|part| without_scale(name, part)).filter(|path| !path.is_empty()) {
                files.push(InputFile { option: read.written.to_owned(), path: path.into(), at: at(read.index) });
            }
        }
        files
    }

    /// The files that variables of the server name: `LLAMA_ARG_CHAT_TEMPLATE_FILE` means what `--chat-template-file` means.
    pub(crate) fn input_files_of_variables(&self, env: &BTreeMap<String, String>) -> Vec<InputFile> {
        let named = env.iter().filter_map(|(variable, value)| {
            let option = variable.strip_prefix("LLAMA_ARG_")?.to_ascii_lowercase().replace('_', "-");
            let files =
                self.input_files(&[format!("--{option}"), value.clone()], |_| WrittenAt::Variable(variable.clone()));
            Some(files.into_iter().map(|file| InputFile { option: variable.clone(), ..file }))
        });
        named.flatten().collect()
    }

    /// Why the build does not know an option as it is written.
    fn name_problem(&self, read: &ReadArgument<'_>, name: &str) -> Option<String> {
        let bare = read.written.trim_start_matches('-');
        let has_long_dashes = read.written.starts_with("--");
        let short = self.listed.long_name(bare);
        Some(match (has_long_dashes, short) {
            (true, _) | (false, Some(_)) if self.listed.lists(name) => {
                return read.is_joined.then(|| {
                    "llama-server takes no value in the same argument; write the option and its value as two".to_owned()
                });
            }
            (true, Some(long)) => format!("a short name has one dash; write `-{bare}` or `--{long}`"),
            (false, None) if self.listed.lists(bare) => format!("a long name has two dashes; write `--{bare}`"),
            _ => self.unlisted_argument(name),
        })
    }

    /// What to do about an option that the build does not list.
    fn unlisted_argument(&self, name: &str) -> String {
        let positive = name.strip_prefix("no-").unwrap_or(name);
        let synonyms = self.dialect.synonyms(name);
        if let Some(listed) = synonyms.iter().map(|synonym| synonym.item).find(|synonym| self.listed.lists(synonym)) {
            return format!("this build does not list it; it calls it `--{listed}`");
        }
        if self.dialect.has_rules(positive) {
            let setting = if positive == name { name.to_owned() } else { format!("{positive} = false") };
            return format!("this build does not list it; set `{setting}` in `flags`, where it is translated");
        }
        if self.dialect.knows(name) || self.dialect.knows(positive) {
            return "this build does not list it; remove it, or use a build that has it".to_owned();
        }
        let known: Vec<&str> = self.listed.names().chain(self.dialect.known_names()).collect();
        let near = nearest(name, &known).map(|near| format!("; did you mean `--{near}`?"));
        format!("no llama-server is known to have this option{}", near.unwrap_or_default())
    }
}

/// How sure it is that a server does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// Every build whose help is complete ends with an error.
    Sure,
    /// The help says so, and a build may take more than its help says.
    Doubt,
}

/// The long name of an option as it is written; llama-server takes `_` for `-` behind two dashes.
fn long_name(written: &str, listed: &OptionList) -> String {
    if let Some(long) = written.strip_prefix("--") {
        return long.replace('_', "-");
    }
    let bare = written.trim_start_matches('-');
    let known = SHORT_NAMES.iter().find(|(short, _)| *short == bare).map(|(_, long)| *long);
    listed.long_name(bare).or(known).unwrap_or(bare).to_owned()
}

/// A negative number is a value.
fn is_option(argument: &str) -> bool {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// The path of `FNAME:SCALE`, for an option that takes a scale.
fn without_scale<'a>(name: &str, text: &'a str) -> &'a str {
    match text.rsplit_once(':').filter(|_| name.ends_with("-scaled")) {
        Some((path, scale)) if scale.parse::<f64>().is_ok() => path,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use llama_warden_config::{FlagValue, ServerSpec};

    use super::*;
    use crate::command_line::{CommandLine, draft_command_line};
    use crate::fixtures;
    use crate::profile::{BinaryProfile, BuildVersion};

    fn server(args: &[&str]) -> ServerSpec {
        ServerSpec { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..fixtures::server("tiny") }
    }

    /// The line for a build, and its errors; without a build, for one whose help cannot be read.
    fn drafted(server: &ServerSpec, build: Option<&str>, refuses_unlisted: bool) -> (CommandLine, Vec<OptionError>) {
        let options = build.map(|build| OptionList::parse(&fixtures::help(build)));
        let binary = BinaryProfile::new("/opt/llama-server".into(), BuildVersion::default(), options);
        draft_command_line(server, &BinaryProfile { refuses_unlisted, ..binary }, &fixtures::dialect())
    }

    #[test]
    fn what_a_build_would_not_take_in_args_is_told_with_what_to_write() {
        let cases: &[(&[&str], &str)] = &[
            (&["--bogus"], "option `--bogus`: in `args`, no llama-server is known to have this option"),
            (&["--ctx-sice", "512"], "did you mean `--ctx-size`?"),
            (&["--no-mmap"], "set `mmap = false` in `flags`"),
            (&["--webui-config", "{}", "--draft-p-split", "0.1"], ""),
            (&["--n-gpu-layer", "9"], "did you mean `--n-gpu-layers`?"),
            (&["--md", "x"], "a short name has one dash; write `-md` or `--model-draft`"),
            (&["-ctx-size", "512"], "a long name has two dashes; write `--ctx-size`"),
            (&["--ctx-size=512"], "`--ctx-size`: in `args`, llama-server takes no value in the same argument"),
            (&["-c 512"], "`-c`: in `args`, llama-server takes no value in the same argument"),
            (&["--ctx-size"], "it has no value"),
            (&["--lora", "--metrics"], "it has no value"),
            (&["--metrics", "true"], "args[1]"),
            (&["--control-vector-layer-range", "1"], "it has no value"),
            (&["--grp-attn-n", "2"], "this build does not list it; remove it"),
            (
                &[
                    "--verbose",
                    "-c",
                    "-1",
                    "--ctx_size",
                    "512",
                    "--control-vector-layer-range",
                    "1",
                    "2",
                    "-ngl",
                    "all",
                ],
                "",
            ),
        ];
        for (args, expected) in cases {
            let (line, errors) = drafted(&server(args), Some("b11669-debian"), true);
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let is_told = if expected.is_empty() { told.is_empty() } else { told.join("\n").contains(expected) };
            assert!(is_told && told.len() < 2 && line.doubts.is_empty(), "{args:?}: {told:?} {:?}", line.doubts);
            let (line, errors) = drafted(&server(args), Some("b11669-debian"), false);
            assert_eq!((errors, line.doubts.len()), (Vec::new(), told.len()), "{args:?}: a wrapper may take more");
        }
        let (line, errors) = drafted(&server(&["--bogus", "x", "y"]), None, false);
        assert_eq!((errors, line.doubts), (Vec::new(), Vec::new()), "nothing is known about such a build");
    }

    #[test]
    fn a_value_that_the_help_contradicts_is_doubted_and_passed() {
        for args in [["--ctx-size", "1.5"], ["-c", "8k"], ["-fa", "maybe"], ["--cache_type_k", "q9"], ["-sm", "rows"]] {
            let (line, errors) = drafted(&server(&args), Some("b11669-debian"), true);
            assert_eq!((errors, line.doubts.len()), (Vec::new(), 1), "{args:?}");
            assert!(!line.doubts[0].to_string().contains(args[1]), "a value may be a secret");
        }
        let mut server = server(&[]);
        let text = |value: &str| fixtures::user_flag(FlagValue::Text(value.to_owned()));
        let flags = Arc::make_mut(&mut server.flags);
        flags.insert("cache-type-k".to_owned(), text("q9"));
        flags.insert("flash-attn".to_owned(), text("maybe"));
        flags.insert("ctx-size".to_owned(), fixtures::user_flag(FlagValue::Float(1.5)));
        flags.insert("temp".to_owned(), fixtures::user_flag(FlagValue::Float(0.7)));
        let (line, errors) = drafted(&server, Some("b11669-debian"), true);
        let doubts: Vec<&str> = line.doubts.iter().map(|doubt| doubt.option.as_str()).collect();
        assert_eq!(doubts, ["cache-type-k", "flash-attn"]);
        assert_eq!(errors.iter().map(|error| error.option.as_str()).collect::<Vec<_>>(), ["ctx-size"]);
    }

    #[test]
    fn a_file_that_a_variable_names_is_looked_for() {
        let mut server = server(&[]);
        let variables = [
            ("LLAMA_ARG_CHAT_TEMPLATE_FILE", "/t.jinja"),
            ("LLAMA_ARG_SSL_KEY_FILE", "/k.pem"),
            ("LLAMA_ARG_THREADS", "8"),
            ("CHAT_TEMPLATE_FILE", "/none"),
        ];
        server.env = Arc::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let (line, _) = drafted(&server, Some("b11669-debian"), true);
        let files: Vec<_> = line.files.iter().map(|file| (file.option.as_str(), file.path.to_str())).collect();
        assert_eq!(files, variables[..2].iter().map(|(name, path)| (*name, Some(*path))).collect::<Vec<_>>());
        assert_eq!(line.files[0].at, WrittenAt::Variable("LLAMA_ARG_CHAT_TEMPLATE_FILE".to_owned()));
    }

    #[test]
    fn a_certificate_or_a_key_that_is_none_is_found_before_the_launch() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("file.pem");
        let look = |option: &str, text: &str| {
            std::fs::write(&path, text).expect("write");
            let file = InputFile { option: option.to_owned(), path: path.clone(), at: WrittenAt::Argument(0) };
            file.look().map_err(|error| (error.kind(), error.to_string()))
        };
        let key = "Bag Attributes\n-----BEGIN RSA PRIVATE KEY-----\nMII\n";
        let certificate = "-----BEGIN CERTIFICATE-----\nMII\n";
        for (option, good) in [
            ("--ssl-key-file", key),
            ("--ssl_cert_file", certificate),
            ("LLAMA_ARG_SSL_KEY_FILE", key),
            ("LLAMA_ARG_SSL_CERT_FILE", certificate),
        ] {
            assert_eq!(look(option, good), Ok(()), "{option}");
            for garbage in ["", "garbage", if good == key { certificate } else { key }] {
                let (kind, told) = look(option, garbage).expect_err("is none");
                assert_eq!(kind, io::ErrorKind::InvalidData, "{option}: {told}");
                assert!(told.contains("in PEM format"), "{told}");
            }
        }
        assert_eq!(look("--chat-template-file", ""), Ok(()));
    }

    #[test]
    fn every_file_that_a_server_reads_is_found_in_each_spelling() {
        let args = [
            "--ssl-key-file",
            "/k.pem",
            "--ssl_cert_file=/c.pem",
            "-md",
            "/d.gguf",
            "--lora",
            "/a.gguf,/b.gguf",
            "--lora-scaled",
            "/s.gguf:0.5",
            "--log-file",
            "/new.log",
            "-jf",
            "schema.json",
            "--path",
            "/www",
        ];
        let expected =
            ["/k.pem", "/c.pem", "/d.gguf", "/a.gguf", "/b.gguf", "/s.gguf", "schema.json", "/www"].map(PathBuf::from);
        let (line, _) = drafted(&server(&args), Some("b11669-debian"), true);
        assert_eq!(line.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), expected);
        let (line, _) = drafted(&server(&["-md", "/d.gguf", "--mmproj=/p.gguf"]), None, false);
        assert_eq!(line.files.len(), 2, "whatever the help says");
        let mut server = server(&[]);
        server.directory = Path::new("/srv").into();
        let path = fixtures::user_flag(FlagValue::Text("d.gguf".to_owned()));
        Arc::make_mut(&mut server.flags).insert("model-draft".to_owned(), path);
        let (line, _) = drafted(&server, Some("b11669-debian"), true);
        let found = InputFile {
            option: "--model-draft".to_owned(),
            path: "/srv/d.gguf".into(),
            at: WrittenAt::Flag("model-draft".to_owned()),
        };
        assert_eq!(line.files, [found]);
    }
}
