//! The builds that a plug-in file fits, by their number and by the options that their help lists.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::file_error::{FileError, PluginSource};

/// A range of build numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRange {
    /// The first build that fits.
    pub min: Option<u64>,
    /// The last build that fits.
    pub max: Option<u64>,
}

/// The conditions that a build must meet. Without conditions, every build fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildFit {
    /// The build numbers. Ignored for a build that reports no number, or 1, as those in llama-cpp-python do.
    pub builds: Option<BuildRange>,
    /// Long options, without dashes, that the help must list, all of them.
    pub help_lists: Vec<String>,
    /// Long options, without dashes, that the help must not list, none of them.
    pub help_lacks: Vec<String>,
}

/// How closely a file fits: the bounds of its build range, then the options that it requires. More is more specific.
pub(crate) type Specificity = (usize, usize);

impl BuildFit {
    /// Checks the three keys of a file. Options may be written with their dashes.
    ///
    /// # Errors
    /// If the range is empty.
    pub fn check(
        source: &PluginSource<'_>,
        builds: Option<Spanned<BuildRange>>,
        help_lists: &[String],
        help_lacks: &[String],
    ) -> Result<Self, FileError> {
        if let Some(builds) = &builds
            && let BuildRange { min: Some(min), max: Some(max) } = builds.as_ref()
            && min > max
        {
            let advice = "swap `min` and `max`";
            return Err(source.error(Some(builds.span()), format!("no build is from {min} to {max}"), advice));
        }
        let bare =
            |options: &[String]| options.iter().map(|option| option.trim_start_matches('-').to_owned()).collect();
        let builds = builds.map(Spanned::into_inner);
        Ok(Self { builds, help_lists: bare(help_lists), help_lacks: bare(help_lacks) })
    }

    /// Whether there are no conditions.
    pub fn is_every_build(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a build meets the conditions; if so, how closely the file fits, and why.
    ///
    /// A condition on something that the build does not report (its number, its help) is skipped. A file whose conditions
    /// were all skipped does not fit.
    pub(crate) fn match_build(&self, build: Option<u64>, options: &[String]) -> Option<(Specificity, String)> {
        // The builds inside llama-cpp-python all say 1.
        let build = build.filter(|build| *build > 1);
        let lists = |option: &String| options.contains(option);
        let mut specificity = (0, 0);
        let mut reasons = Vec::new();
        if let (Some(range), Some(build)) = (self.builds, build) {
            if range.min.is_some_and(|min| build < min) || range.max.is_some_and(|max| build > max) {
                return None;
            }
            specificity.0 = usize::from(range.min.is_some()) + usize::from(range.max.is_some());
            reasons.push(format!("it is build {build}"));
        }
        let names_options = !self.help_lists.is_empty() || !self.help_lacks.is_empty();
        if names_options && !options.is_empty() {
            if !self.help_lists.iter().all(lists) || self.help_lacks.iter().any(lists) {
                return None;
            }
            // Only options that have to be listed count: a help lacks almost every option there is.
            specificity.1 = self.help_lists.len();
            reasons.push(self.describe_options());
        }
        if reasons.is_empty() && !self.is_every_build() {
            return None;
        }
        let because = if reasons.is_empty() { "nothing more specific fits".into() } else { reasons.join(", and ") };
        Some((specificity, because))
    }

    fn describe_options(&self) -> String {
        let described = [("lists", &self.help_lists), ("lacks", &self.help_lacks)].into_iter();
        let described = described.filter(|(_, options)| !options.is_empty());
        let parts = described.map(|(verb, options)| format!("{verb} {}", prefixed("--", options).join(", ")));
        format!("its help {}", parts.collect::<Vec<_>>().join(" and "))
    }
}

impl std::fmt::Display for BuildFit {
    /// For a table: `from b12000, +load-mode -models-dir`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let builds = self.builds.map(|builds| match builds {
            BuildRange { min: Some(min), max: Some(max) } if min == max => format!("b{min}"),
            BuildRange { min: Some(min), max: Some(max) } => format!("b{min} to b{max}"),
            BuildRange { min: Some(min), max: None } => format!("from b{min}"),
            BuildRange { min: None, max: Some(max) } => format!("to b{max}"),
            BuildRange { min: None, max: None } => "numbered builds".to_owned(),
        });
        let options = [prefixed("+", &self.help_lists), prefixed("-", &self.help_lacks)].concat();
        let shown = match options.len() {
            0 => None,
            1..=4 => Some(options.join(" ")),
            more => Some(format!("{} and {} more", options[..3].join(" "), more - 3)),
        };
        let parts: Vec<String> = builds.into_iter().chain(shown).collect();
        f.write_str(&if parts.is_empty() { "every build".to_owned() } else { parts.join(", ") })
    }
}

fn prefixed(prefix: &str, options: &[String]) -> Vec<String> {
    options.iter().map(|option| format!("{prefix}{option}")).collect()
}
