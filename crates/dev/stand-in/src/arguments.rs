//! The command line before its options are parsed, which depend on the script that it names.

use std::{ffi::OsString, path::PathBuf};

/// The arguments of the process as text, without the program's name.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) program: OsString,
    /// Lossy: invalid UTF-8 is replaced. Paths that are not UTF-8 are not supported.
    pub(crate) rest: Vec<String>,
}

impl Arguments {
    pub(crate) fn split(args: &[OsString]) -> Self {
        let (program, rest) = match args.split_first() {
            Some((program, rest)) => (program.clone(), rest),
            None => (OsString::new(), args),
        };
        Self { program, rest: rest.iter().map(|argument| argument.to_string_lossy().into_owned()).collect() }
    }

    /// The program's path if its name contains a slash. A bare name was found through PATH and gives no folder.
    pub(crate) fn program_path(&self) -> Option<PathBuf> {
        let path = PathBuf::from(&self.program);
        (path.components().count() > 1).then_some(path)
    }

    /// The value after the last `-m` or `--model`, without parsing the other options.
    pub(crate) fn model(&self) -> Option<PathBuf> {
        let at = self.rest.iter().rposition(|argument| argument == "-m" || argument == "--model")?;
        self.rest.get(at + 1).map(PathBuf::from)
    }
}
