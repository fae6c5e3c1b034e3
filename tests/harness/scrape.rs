//! Reads single samples from the Prometheus text format.

/// The value of the first sample of family `name` that has all of `labels`, in any order; `None` where there is none.
pub fn sample(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has_all = |line: &str| labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")));
    let samples = text.lines().filter_map(|line| line.strip_prefix(name));
    let (_, value) =
        samples.filter(|rest| rest.starts_with(['{', ' ']) && has_all(rest)).find_map(|rest| rest.rsplit_once(' '))?;
    value.parse().ok()
}
