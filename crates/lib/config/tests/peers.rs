//! `[peers]`: what is read, and what is told of mistakes.

use std::path::Path;

use llama_warden_config::{ConfigSource, Configuration, Environment, RenderStyle};

fn read(text: &str, environment: &Environment) -> Result<Configuration, Vec<String>> {
    let source = ConfigSource::text("/configuration", text);
    let read = Configuration::parse(&source, environment);
    read.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

#[test]
fn a_peer_has_a_name_an_address_and_perhaps_a_token() {
    let text = "[peers.gpu2]\nurl = 'http://gpu2'\n[peers]\ngpu1 = { url = 'http://10.0.0.1:1/', token-file = 'gpu1.token' }\n";
    let configuration = read(text, &Environment::default()).expect("valid");
    let peers: Vec<_> = configuration.peers().iter().map(|peer| (peer.name.as_str(), peer.url.to_string())).collect();
    assert_eq!(peers, [("gpu1", "http://10.0.0.1:1".to_owned()), ("gpu2", "http://gpu2:9888".to_owned())]);
    assert_eq!(configuration.peers()[0].token_file.as_deref(), Some(Path::new("/configuration/gpu1.token")));
    assert_eq!(configuration.peers()[1].token_file, None);
    assert!(read("", &Environment::default()).expect("valid").peers().is_empty());
}

#[test]
fn a_peer_that_cannot_be_is_told_with_its_place() {
    for (text, expected) in [
        ("[peers.a]\n", ":1:1: peer `a` has no key `url`"),
        ("[peers.a]\nurl = 1", ":2:7: `peers.a.url` must be a string"),
        ("[peers.a]\nurl = 'gpu2:9888'", ":2:7: `peers.a.url` is not http://HOST:PORT"),
        ("[peers.a]\nurl = 'https://gpu2'", ":2:7: `peers.a.url` asks for TLS, which llama-warden does not speak"),
        ("[peers.a]\nurl = 'http://gpu2/x'", ":2:7: `peers.a.url` has a path"),
        ("[peers.a]\nurl = 'http://u:p@gpu2'", ":2:7: `peers.a.url` has a name or a password in it"),
        ("[peers.a]\nurl = 'http://x'\ntoken = 'y'", ":3:1: unknown key `peers.a.token`"),
        ("[peers.a]\nurl = 'http://x'\ntoken-file = '~/t'", ":3:14: "),
        ("[peers.'a b']\nurl = 'http://x'", ":1:1: `a b` is not the name of a peer"),
        (
            "[peers.a]\nurl = 'http://x'\n[peers.b]\nurl = 'http://x:9888/'",
            ":4:7: peer `b` has the address of peer `a`",
        ),
        ("[peers]\na = 'http://x'", ":2:5: `peers.a` must be a table"),
    ] {
        let problems = read(text, &Environment::default()).expect_err(text);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:?}");
    }
    let many: String = (0..65).map(|at| format!("[peers.p{at}]\nurl = 'http://h{at}'\n")).collect();
    assert!(read(&many, &Environment::default()).is_err_and(|problems| problems[0].contains("more than 64")));
    let variable = [("LLAMA_WARDEN_PEERS__A", "http://x")].into_iter().collect();
    assert!(read("", &variable).is_err_and(|problems| problems[0].contains("`peers` cannot be set")));
}

#[test]
fn a_password_in_the_url_of_a_peer_is_not_shown() {
    for url in ["http://u:secr3t@gpu2", "https://u:secr3t@gpu2"] {
        let source = ConfigSource::text("/configuration", &format!("[peers.a]\nurl = '{url}'\n"));
        let problems = Configuration::parse(&source, &Environment::default()).expect_err("refused");
        let told = problems.render(RenderStyle::Plain);
        assert!(told.contains("peers.a.url") && !told.contains("secr3t"), "{told}");
    }
}
