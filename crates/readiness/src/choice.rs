//! Which of several packs fits a build best.

use crate::Pack;

/// A pack that was chosen, and why.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The pack.
    pub pack: Pack,
    /// Why this one, for people.
    pub because: String,
}

/// How well a pack fits: bounds of the build number, then options. More is more specific.
type Specificity = (usize, usize);

/// The pack for a build: the one that `forced` names, else the most specific one that fits; of equally specific ones the
/// first. `options` are the long options of the build's help, without dashes. `None` only without packs.
pub fn choose(packs: &[Pack], build: Option<u64>, options: &[String], forced: Option<&str>) -> Option<Choice> {
    let mut unknown = String::new();
    if let Some(name) = forced {
        if let Some(pack) = packs.iter().find(|pack| pack.name() == name) {
            return Some(Choice { pack: pack.clone(), because: "the configuration names it".into() });
        }
        unknown = format!("there is no pack `{name}`; ");
    }
    let mut best: Option<(Specificity, &Pack, String)> = None;
    for pack in packs {
        let Some((specificity, because)) = fit(pack, build, options) else { continue };
        if best.as_ref().is_none_or(|(other, ..)| specificity > *other) {
            best = Some((specificity, pack, because));
        }
    }
    best.map(|(_, pack, because)| Choice { pack: pack.clone(), because: unknown + &because })
}

/// Whether a pack fits, how well, and why. Each condition that can be judged has to hold, and one has to be judged
/// unless the pack has none.
fn fit(pack: &Pack, build: Option<u64>, options: &[String]) -> Option<(Specificity, String)> {
    // The builds inside llama-cpp-python all say 1.
    let build = build.filter(|build| *build > 1);
    let lists = |option: &String| options.iter().any(|listed| listed == option);
    let mut specificity = (0, 0);
    let mut reasons = Vec::new();
    if let (Some(range), Some(build)) = (pack.builds(), build) {
        if range.min.is_some_and(|min| build < min) || range.max.is_some_and(|max| build > max) {
            return None;
        }
        specificity.0 = usize::from(range.min.is_some()) + usize::from(range.max.is_some());
        reasons.push(format!("it is build {build}"));
    }
    let names_options = !pack.help_lists().is_empty() || !pack.help_lacks().is_empty();
    if names_options && !options.is_empty() {
        if !pack.help_lists().iter().all(lists) || pack.help_lacks().iter().any(lists) {
            return None;
        }
        specificity.1 = pack.help_lists().len();
        reasons.push(describe_options(pack));
    }
    if reasons.is_empty() && (names_options || pack.builds().is_some()) {
        return None;
    }
    let because = if reasons.is_empty() { "nothing more specific fits".into() } else { reasons.join(", and ") };
    Some((specificity, because))
}

fn describe_options(pack: &Pack) -> String {
    let dashed = |options: &[String]| options.iter().map(|option| format!("--{option}")).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !pack.help_lists().is_empty() {
        parts.push(format!("lists {}", dashed(pack.help_lists())));
    }
    if !pack.help_lacks().is_empty() {
        parts.push(format!("lacks {}", dashed(pack.help_lacks())));
    }
    format!("its help {}", parts.join(" and "))
}
