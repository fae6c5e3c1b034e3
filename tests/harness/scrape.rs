//! Reading the Prometheus text format, as far as a test asks.

/// The value of the sample of family `name` that has all of `labels`, in whatever order.
pub fn sample(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has_all = |line: &str| labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")));
    let samples = text.lines().filter_map(|line| line.strip_prefix(name));
    let (_, value) =
        samples.filter(|rest| rest.starts_with(['{', ' ']) && has_all(rest)).find_map(|rest| rest.rsplit_once(' '))?;
    value.parse().ok()
}
