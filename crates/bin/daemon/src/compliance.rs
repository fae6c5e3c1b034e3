//! What every component must do, for the small components of the daemon itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_warden_api::Listeners;
use llama_warden_component_kit::compliance;
use llama_warden_keys::{KeyGrant, NewKey, append_key};

use crate::config_watch::ConfigWatch;
use crate::fleet_source::LatestText;
use crate::heap::HeapTrimmer;
use crate::keys_file::KeysFile;
use crate::reread_file::FileReader;
use crate::state_dir::StateDir;
use crate::state_watch::StateWatch;
use crate::token_file::TokenFile;

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("writable");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("our own");
}

#[tokio::test(start_paused = true)]
async fn the_heap_trimmer_complies() {
    compliance::check(|_| HeapTrimmer).await;
}

#[tokio::test(start_paused = true)]
async fn the_reader_of_the_token_file_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("token");
    write_private(&path, "s3cret\n");
    compliance::check(|_| FileReader(TokenFile::open(&path).expect("a token"))).await;
}

#[tokio::test(start_paused = true)]
async fn the_reader_of_the_keys_file_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("keys.toml");
    let grant = KeyGrant { name: "one".to_owned(), ..KeyGrant::default() };
    append_key(&path, &grant, &NewKey::random().expect("random")).expect("writable");
    compliance::check(|_| FileReader(KeysFile::open(&path).expect("a key"))).await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_of_the_configuration_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("a.toml");
    fs::write(&path, "1").expect("writable");
    compliance::check(|_| ConfigWatch::new(path.clone(), LatestText::new("1".into()))).await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_of_the_state_directory_complies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut count = 0;
    compliance::check(|bus| {
        count += 1;
        let path = folder.path().join(format!("state-{count}"));
        let state = StateDir::acquire(&path).expect("free");
        let listeners = Listeners::bind(None, &path.join("control.sock"), Vec::new()).expect("binds");
        StateWatch::build(&bus.context(""), state, listeners.control_rebinder())
    })
    .await;
}
