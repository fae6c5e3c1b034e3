//! Chooses the file that fits a build best.

use crate::build_fit::Specificity;
use crate::file::PluginFile;

/// The file that was chosen for a build.
#[derive(Debug, Clone)]
pub struct Choice<F> {
    /// The chosen file.
    pub file: F,
    /// Why this file was chosen, for people.
    pub because: String,
}

/// Chooses the file for a build: the one that `forced` names, else one of the user's directory that fits, else a built-in one.
/// Of several of one place, the most specific; of equally specific ones, the first. The fallback is the last choice wherever
/// it comes from.
///
/// `options` are the long options that the build's help lists, without dashes. `None` means that no file fits, which cannot
/// happen in a set with a fallback.
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
        // An unknown name is no reason to refuse the launch: `because` informs the user.
        unknown = format!("there is no {} `{name}`; ", F::KIND);
    }
    let mut best: Option<((bool, Specificity), &F, String)> = None;
    for file in files {
        let Some((specificity, mut because)) = file.fit().match_build(build, options) else { continue };
        let is_users_own = file.origin().path().is_some() && file.name() != F::FALLBACK;
        if is_users_own && file.fit().is_every_build() {
            because = "it fits every build, and what is in the directory goes before what is built in".to_owned();
        }
        let rank = (is_users_own, specificity);
        if best.as_ref().is_none_or(|(other, ..)| rank > *other) {
            best = Some((rank, file, because));
        }
    }
    best.map(|(_, file, because)| Choice { file: file.clone(), because: unknown + &because })
}
