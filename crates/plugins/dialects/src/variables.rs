//! Reads the environment variables out of `llama-server --help`, which names them as `(env: LLAMA_ARG_THREADS)`.

/// The names of variables that a help text says the build reads, sorted.
pub fn named_variables(help: &str) -> Vec<String> {
    let mut names: Vec<String> = help
        .split("env: ")
        .skip(1)
        .filter_map(|rest| {
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            Some(rest[..end].to_owned()).filter(|name| !name.is_empty())
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_a_help_text_is_read_once() {
        let help = "-t, --threads N   threads (default: -1)\n      (env: LLAMA_ARG_THREADS)\n\
                    -hft TOKEN  token (default: value from HF_TOKEN environment variable)\n (env: HF_TOKEN)\n(env: HF_TOKEN)";
        assert_eq!(named_variables(help), ["HF_TOKEN", "LLAMA_ARG_THREADS"]);
        assert_eq!(named_variables("usage: llama-server"), [""; 0]);
    }
}
