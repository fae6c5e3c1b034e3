//! Which of several files fits a build best.

use crate::build_fit::Specificity;
use crate::file::PluginFile;

/// A file that was chosen.
#[derive(Debug, Clone)]
pub struct Choice<F> {
    /// It.
    pub file: F,
    /// Why this one, for people.
    pub because: String,
}

/// The file for a build: the one that `forced` names, else the most specific one that fits; of equally specific ones the
/// first. `options` are the long options of the build's help, without dashes. `None` only without files.
pub fn choose<F: PluginFile>(
    files: &[F],
    build: Option<u64>,
    options: &[String],
    forced: Option<&str>,
) -> Option<Choice<F>> {
    let mut unknown = String::new();
    if let Some(name) = forced {
        if let Some(file) = files.iter().find(|file| file.name() == name) {
            return Some(Choice { file: file.clone(), because: "the configuration names it".into() });
        }
        unknown = format!("there is no {} `{name}`; ", F::KIND);
    }
    let mut best: Option<(Specificity, &F, String)> = None;
    for file in files {
        let Some((specificity, because)) = file.fit().judge(build, options) else { continue };
        if best.as_ref().is_none_or(|(other, ..)| specificity > *other) {
            best = Some((specificity, file, because));
        }
    }
    best.map(|(_, file, because)| Choice { file: file.clone(), because: unknown + &because })
}
