//! Discovery in directories of generated files.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

mod damage;
mod ids;
mod models;
mod projectors;
mod shards;
#[expect(dead_code, reason = "the tests of single headers use the rest")]
#[path = "../support/gguf.rs"]
mod support;
mod tree;

use std::path::{Path, PathBuf};

use llama_warden_catalog::{CatalogReport, DirectoryLinks, DiscoveredModel, ProblemReason, discover};
use tempfile::TempDir;

use support::Gguf;

/// An empty directory to put models in.
struct Models {
    directory: TempDir,
}

impl Models {
    fn new() -> Self {
        Self { directory: TempDir::with_prefix("catalog-").expect("temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, name: &str, gguf: &Gguf) -> PathBuf {
        let path = self.path(name);
        gguf.write(&path).expect("written");
        path
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn discover(&self) -> CatalogReport {
        discover(&[self.root().to_owned()], DirectoryLinks::Reported)
    }

    /// The one model that is found, without any problem.
    fn only(&self) -> DiscoveredModel {
        let report = self.discover();
        assert_eq!(report.problems, []);
        let [model] = <[DiscoveredModel; 1]>::try_from(report.models).expect("one model");
        model
    }

    /// The problems by the name of the file in this directory.
    fn problems(&self) -> Vec<(String, ProblemReason)> {
        let root = format!("{}/", self.root().display());
        let inside = |path: &str| path.strip_prefix(&root).unwrap_or(path).to_owned();
        self.discover().problems.iter().map(|problem| (inside(&problem.path), problem.reason)).collect()
    }
}

fn ids(report: &CatalogReport) -> Vec<&str> {
    report.models.iter().map(|model| model.id.as_str()).collect()
}
