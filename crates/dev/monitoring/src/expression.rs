//! Pieces of PromQL that several rules share, and the names that an expression uses.

/// The labels that tell one server of one daemon from all others.
pub(crate) const SERVER: &str = "job, instance, server";

/// Matches the job under which Prometheus scrapes a daemon; an operator puts its namespace in front.
pub(crate) const JOB: &str = "job=~\".*llama-warden.*\"";

/// How much the counter `series` grew within `window`, from its first observation on.
///
/// A counter with a label for the reason has no series before it first counts, and `increase` does not see a value with which a
/// series begins. So a series that did not exist at the beginning of the window counts in full, provided that the daemon was
/// scraped at that time: otherwise the value may be old.
pub(crate) fn counted(series: &str, window: &str) -> String {
    format!(
        "(((({series}) unless ({series} offset {window})) and on (job, instance) (up offset {window} == 1)) or increase({series}[{window}]))"
    )
}

/// The metrics that `expression` uses, by the names of their families: without what a histogram appends.
#[cfg(test)]
pub(crate) fn families(expression: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c: char| !is_word(c));
    let metrics = words.filter(|word| word.starts_with("llama_warden_") || word.starts_with("process_"));
    let suffixes = ["_bucket", "_sum", "_count"];
    metrics.map(|word| suffixes.iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word)).collect()
}
