//! Components: each of the program's own passes the compliance suite of `component-kit`.

use std::collections::BTreeMap;

use super::{Checkout, Source, Violation};

const RULE: &str = "compliance";

/// The folders of the crates that have components. What `dev` plays is no part of the program.
const FOLDERS: [&str; 2] = ["crates/components/", "crates/bin/"];

/// How a component of the suite is checked.
const CHECK: &str = "compliance::check(";

/// The components of a crate, and how many of its tests run the suite.
#[derive(Debug, Default)]
struct CountedChecks<'a> {
    components: Vec<(&'a Source, usize)>,
    checks: usize,
}

/// Finds crates with more components than tests that run the suite.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, CountedChecks<'_>> = BTreeMap::new();
    for source in checkout.sources.iter().filter(|source| source.is_rust()) {
        let Some(folder) = crate_folder(&source.path) else { continue };
        let counted = crates.entry(folder).or_default();
        counted.checks += source.text.matches(CHECK).count();
        if source.path.contains("/src/") && source.file_name() != "tests.rs" {
            let components = source.text.lines().enumerate().filter(|(_, line)| implements_component(line));
            counted.components.extend(components.map(|(index, _)| (source, index + 1)));
        }
    }
    crates.retain(|_, counted| counted.components.len() > counted.checks);
    let violation = |counted: CountedChecks<'_>| {
        let (source, line) = counted.components.last().copied()?;
        let components = counted.components.len();
        let advice =
            format!("{} tests run `{CHECK}…)` for {components} components: add the missing one", counted.checks);
        Some(Violation::of_line(&source.path, line, RULE, advice))
    };
    crates.into_values().filter_map(violation).collect()
}

/// `crates/KIND/NAME` of a file in one of the folders.
fn crate_folder(path: &str) -> Option<&str> {
    let folder = FOLDERS.iter().find(|folder| path.starts_with(**folder))?;
    let name = path[folder.len()..].find('/')?;
    Some(&path[..folder.len() + name])
}

fn implements_component(line: &str) -> bool {
    line.starts_with("impl") && line.contains(" Component for ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = "impl Component for Pager {\n}\nimpl<F: File> Component for Reader<F> {\n}\n";

    fn lines(path: &str, test: &str) -> Vec<usize> {
        let test = ("crates/components/pager/tests/compliance.rs", test);
        check(&Checkout::of(&[(path, COMPONENT), test])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn every_component_needs_a_test_that_runs_the_suite() {
        let one = format!("{CHECK}|_| Pager).await;");
        let path = "crates/components/pager/src/component.rs";
        assert_eq!(lines(path, ""), [3]);
        assert_eq!(lines(path, &one), [3]);
        assert_eq!(lines(path, &one.repeat(2)), [0; 0]);
    }

    #[test]
    fn what_tests_and_tools_implement_is_no_component_of_the_program() {
        for path in
            ["crates/components/pager/tests/a.rs", "crates/components/pager/src/a/tests.rs", "crates/dev/a/src/a.rs"]
        {
            assert_eq!(lines(path, ""), [0; 0], "{path}");
        }
    }
}
