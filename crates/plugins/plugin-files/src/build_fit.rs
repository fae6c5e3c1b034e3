//! Which builds a data file fits, and which of several files fits a build best.

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

/// The builds that a file fits: every one, where nothing is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildFit {
    /// The build numbers. Not judged where a build says no number, or 1, as those in llama-cpp-python do.
    pub builds: Option<BuildRange>,
    /// Long options, without dashes, that the help has to list, all of them.
    pub help_lists: Vec<String>,
    /// Long options, without dashes, that the help must not list, none of them.
    pub help_lacks: Vec<String>,
}

/// How well a file fits: bounds of the build number, then options. More is more specific.
pub(crate) type Specificity = (usize, usize);

impl BuildFit {
    /// What three keys of a file ask; options may be written with their dashes.
    ///
    /// # Errors
    /// If no build can be in the range.
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

    /// Whether nothing is asked.
    pub fn is_every_build(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a build fits, how well, and why. Each condition that can be judged has to hold, and one has to be judged
    /// unless there is none.
    pub(crate) fn judge(&self, build: Option<u64>, options: &[String]) -> Option<(Specificity, String)> {
        // The builds inside llama-cpp-python all say 1.
        let build = build.filter(|build| *build > 1);
        let lists = |option: &String| options.iter().any(|listed| listed == option);
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
            specificity.1 = self.help_lists.len();
            reasons.push(self.describe_options());
        }
        if reasons.is_empty() && (names_options || self.builds.is_some()) {
            return None;
        }
        let because = if reasons.is_empty() { "nothing more specific fits".into() } else { reasons.join(", and ") };
        Some((specificity, because))
    }

    fn describe_options(&self) -> String {
        let dashed =
            |options: &[String]| options.iter().map(|option| format!("--{option}")).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        if !self.help_lists.is_empty() {
            parts.push(format!("lists {}", dashed(&self.help_lists)));
        }
        if !self.help_lacks.is_empty() {
            parts.push(format!("lacks {}", dashed(&self.help_lacks)));
        }
        format!("its help {}", parts.join(" and "))
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
        let signed =
            |sign: char, options: &[String]| options.iter().map(|option| format!("{sign}{option}")).collect::<Vec<_>>();
        let options = [signed('+', &self.help_lists), signed('-', &self.help_lacks)].concat();
        let shown = match options.len() {
            0 => None,
            1..=4 => Some(options.join(" ")),
            more => Some(format!("{} and {} more", options[..3].join(" "), more - 3)),
        };
        let parts: Vec<String> = builds.into_iter().chain(shown).collect();
        f.write_str(&if parts.is_empty() { "every build".to_owned() } else { parts.join(", ") })
    }
}
