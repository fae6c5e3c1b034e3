//! The redactor: no secret is left in a line.
//!
//! In an input, the rest of a line that begins with `=` is a secret, and all other lines are the text.

use std::collections::BTreeSet;

use llama_warden_support::{REDACTED, Redactor, head_and_tail, mask, masked_variable, secrets_in, variable_secrets};
use memchr::memmem;

/// Replaces the secrets in the text of the input.
pub(crate) fn check(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let (secrets, text): (Vec<&[u8]>, Vec<&[u8]>) = lines.into_iter().partition(|line| line.starts_with(b"="));
    let secrets: Vec<&[u8]> = secrets.into_iter().map(|line| &line[1..]).collect();
    let text = text.join(&b'\n');

    let redactor = Redactor::new(&secrets);
    let clean = redactor.redact(&text);
    secrets.iter().for_each(|secret| check_gone(&clean, secret));
    // The lines of a stream are cut before they are redacted.
    let cut = head_and_tail(&text, 64);
    secrets.iter().for_each(|secret| check_gone(&redactor.redact(&cut), secret));

    let text = String::from_utf8_lossy(&text);
    let masked = mask(&text);
    let found: BTreeSet<String> = secrets_in(&text).into_iter().collect();
    assert_eq!(found.is_empty(), masked == text, "what is masked is known: {found:?}");
    let clean = Redactor::new(&found).redact(text.as_bytes()).into_owned();
    found.iter().for_each(|secret| check_gone(&clean, secret.as_bytes()));
    for name in ["API_KEY", "https_proxy", "HF_ENDPOINT"] {
        let shown = masked_variable(name, &text);
        variable_secrets(name, &text).iter().filter(|secret| shown.len() >= secret.len()).for_each(|secret| {
            // The last part of a password may be a word of the rest.
            if name == "API_KEY" {
                check_gone(shown.as_bytes(), secret.as_bytes());
            }
        });
    }
}

/// Checks that a secret is not in what is shown. Of a secret that is a part of the mark itself, or begins or ends with one, the
/// mark beside other text may be taken.
fn check_gone(shown: &[u8], secret: &[u8]) {
    let is_ordinary = secret.len() >= 4 && !secret.contains(&b'[') && !secret.contains(&b']');
    let is_in = |text: &[u8]| memmem::find(text, secret).is_some();
    if is_ordinary && !is_in(REDACTED.as_bytes()) {
        assert!(
            !is_in(shown),
            "{:?} is left in {:?}",
            secret.escape_ascii().to_string(),
            shown.escape_ascii().to_string()
        );
    }
}
