//! The files of the page.

use llama_warden_api_types::{Access, ExtraRouteSpec};

/// The route of the page. What it loads lies below `/dashboard/`.
pub const DASHBOARD_ROUTE: ExtraRouteSpec = ExtraRouteSpec {
    operation: "getDashboard",
    path: "/",
    access: Access::Open,
    summary: "The dashboard, for browsers; it carries no data, and loads its files from below /dashboard/",
    parameters: &[],
    answer: "The page.",
    content_types: &["text/html"],
};

/// A file of the page, at its path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageFile {
    pub(crate) spec: &'static ExtraRouteSpec,
    pub(crate) content: &'static [u8],
}

/// The page itself.
pub(crate) const INDEX: PageFile = PageFile { spec: &DASHBOARD_ROUTE, content: include_bytes!("../page/index.html") };

/// Lists what the page loads, from its folder.
macro_rules! loaded {
    ($($name:literal $media_type:literal),* $(,)?) => {
        pub(crate) const LOADED: &[PageFile] = &[$(PageFile {
            spec: &ExtraRouteSpec {
                operation: "getDashboardFile",
                path: concat!("/dashboard/", $name),
                access: Access::Open,
                summary: "A file that the dashboard loads",
                parameters: &[],
                answer: "The file.",
                content_types: &[$media_type],
            },
            content: include_bytes!(concat!("../page/", $name)),
        }),*];
    };
}

loaded![
    "style.css" "text/css",
    "icon.svg" "image/svg+xml",
    "main.js" "text/javascript",
    "daemon.js" "text/javascript",
    "events.js" "text/javascript",
    "dialogs.js" "text/javascript",
    "drawer.js" "text/javascript",
    "log.js" "text/javascript",
    "memory.js" "text/javascript",
    "peers.js" "text/javascript",
    "table.js" "text/javascript",
    "text.js" "text/javascript",
    "verdict.js" "text/javascript",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_whole_page_has_at_most_80_kilobytes() {
        let size: usize = LOADED.iter().chain([&INDEX]).map(|file| file.content.len()).sum();
        assert!(size <= 80_000, "{size} bytes");
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("page")).expect("a folder");
        let written: BTreeSet<_> =
            folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        let served = LOADED.iter().map(|file| file.spec.path.replace("/dashboard/", ""));
        let served: BTreeSet<_> = served.chain(["index.html".to_owned()]).collect();
        assert_eq!(written, served);
    }

    /// Whatever a server writes can get into the page. As text it is harmless, as markup it is a program.
    #[test]
    fn no_script_makes_markup_of_text() {
        let scripts = LOADED.iter().filter(|file| file.spec.path.ends_with(".js"));
        for script in scripts {
            let text = std::str::from_utf8(script.content).expect("UTF-8");
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"]
            {
                assert!(!text.contains(word), "{}: {word}", script.spec.path);
            }
        }
    }

    #[test]
    fn the_page_has_no_inline_script_and_no_inline_style() {
        let text = std::str::from_utf8(INDEX.content).expect("UTF-8");
        for word in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://"] {
            assert!(!text.contains(word), "{word}");
        }
        assert_eq!(text.matches("<script").count(), text.matches("<script type=\"module\" src=\"").count());
    }
}
