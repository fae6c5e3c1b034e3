//! The names of the repositories on Hugging Face from which llama-server downloads models.

/// What a `model` begins with that is a repository. A file of such a name is written as `./hf:…`.
pub const REPOSITORY_PREFIX: &str = "hf:";

/// Whether this is `ORG/REPO` or `ORG/REPO:QUANT`.
pub fn is_repository(name: &str) -> bool {
    let is_name = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !part.is_empty() && !part.starts_with('-') && part.bytes().all(allowed)
    };
    let (path, quantisation) = name.split_once(':').map_or((name, None), |(path, quant)| (path, Some(quant)));
    path.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name))
        && quantisation.is_none_or(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_and_a_name_are_a_repository_with_or_without_a_quantisation() {
        for (name, expected) in [
            ("org/repo", true),
            ("org/repo-1.5_x:Q4_K_M", true),
            ("repo", false),
            ("org/repo/file", false),
            ("org/repo:", false),
            ("/repo", false),
            ("-org/repo", false),
            ("org/ repo", false),
        ] {
            assert_eq!(is_repository(name), expected, "{name}");
        }
    }
}
