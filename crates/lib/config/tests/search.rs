//! The search for a configuration file, and files that cannot be read.

#![expect(clippy::unwrap_used, reason = "tests end by panicking")]

use std::path::Path;

use llama_warden_config::{ConfigSource, Configuration, Environment, find};

struct Places {
    root: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Searches from `cwd`, with a home and, where named, LLAMA_WARDEN_CONFIG.
    fn find(&self, explicit: Option<&str>, named: Option<&str>) -> Result<ConfigSource, String> {
        let home = self.root.path().join("home");
        let named = named.map(|path| ("LLAMA_WARDEN_CONFIG", Path::new(path).to_path_buf()));
        let environment: Environment = [("HOME", home)].into_iter().chain(named).collect();
        find(explicit.map(Path::new), &environment, &self.root.path().join("cwd"))
            .map_err(|problems| problems.to_string())
    }
}

#[test]
fn the_nearest_place_wins() {
    let places = Places::new();
    places.write("cwd/unrelated", "");
    assert_eq!(places.find(None, None).map(|source| source.path), Ok(None), "with none, the built-in defaults");
    places.write("home/.config/llama-warden/config.toml", "# home");
    assert_eq!(places.find(None, None).map(|source| source.text).as_deref(), Ok("# home"));
    places.write("cwd/llama-warden.toml", "# here");
    assert_eq!(places.find(None, None).map(|source| source.text).as_deref(), Ok("# here"));
    places.write("cwd/named.toml", "# named");
    assert_eq!(places.find(None, Some("named.toml")).map(|source| source.text).as_deref(), Ok("# named"));
    places.write("cwd/sub/explicit.toml", "# explicit");
    let source = places.find(Some("sub/explicit.toml"), Some("named.toml")).unwrap();
    assert_eq!(&*source.text, "# explicit");
    assert_eq!(source.path.as_deref(), Some(Path::new("sub/explicit.toml")));
    assert_eq!(source.directory, places.root.path().join("cwd/sub"));
}

#[test]
fn a_file_that_is_found_from_the_root_is_named_by_its_whole_path() {
    let places = Places::new();
    places.write("llama-warden/config.toml", "x = 1");
    let home = [("XDG_CONFIG_HOME", places.root.path().to_path_buf())];
    let source = find(None, &home.into_iter().collect(), Path::new("/")).unwrap();
    assert_eq!(source.path, Some(places.root.path().join("llama-warden/config.toml")));
    assert_eq!(source.directory, places.root.path().join("llama-warden"));
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let places = Places::new();
    places.write("cwd/llama-warden.toml", "");
    for (explicit, named) in [(Some("gone.toml"), None), (None, Some("gone.toml"))] {
        let error = places.find(explicit, named).unwrap_err();
        assert!(error.starts_with("gone.toml: cannot be read: "), "{error}");
    }
}

#[test]
fn a_file_that_is_there_and_cannot_be_read_is_never_skipped() {
    let places = Places::new();
    std::fs::create_dir_all(places.root.path().join("cwd/llama-warden.toml")).unwrap();
    assert!(places.find(None, None).unwrap_err().starts_with("llama-warden.toml: cannot be read: "));
    std::fs::write(places.root.path().join("cwd/latin1.toml"), b"# \xe4").unwrap();
    assert!(places.find(Some("latin1.toml"), None).unwrap_err().contains("UTF-8"));
}

#[test]
fn problems_name_the_file_as_the_user_does() {
    let places = Places::new();
    places.write("cwd/llama-warden.toml", "x = 1");
    let source = places.find(None, None).unwrap();
    let problems = Configuration::parse(&source, &Environment::default()).unwrap_err();
    assert_eq!(problems.to_string(), "llama-warden.toml:1:1: unknown key `x`");
}
