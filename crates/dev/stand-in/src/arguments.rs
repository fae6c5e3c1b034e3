//! The command line before it is understood: enough to find a script.

use std::{ffi::OsString, path::PathBuf};

/// The arguments of the process as text, with the program's name apart.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) program: OsString,
    /// Lossy: an argument that is not UTF-8 is no option, and a path of such bytes is beyond this double.
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

    /// The program's path where its name has a slash; a bare name says nothing about where it lies.
    pub(crate) fn program_path(&self) -> Option<PathBuf> {
        let path = PathBuf::from(&self.program);
        (path.components().count() > 1).then_some(path)
    }

    /// The model, as far as it can be told without knowing the options: the value after the last `-m`.
    pub(crate) fn model(&self) -> Option<PathBuf> {
        let at = self.rest.iter().rposition(|argument| argument == "-m" || argument == "--model")?;
        self.rest.get(at + 1).map(PathBuf::from)
    }
}
