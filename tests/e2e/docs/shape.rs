//! Compares output that a page shows with output that a command gives: the same words at the same places, other numbers.
//!
//! Numbers with their units, hexadecimal names and paths are alike. `…` stands for any text in a line, and for any number of lines
//! where it is alone.

/// Units behind a number. A number and its unit are one word or two.
const UNITS: [&str; 22] = [
    "%", "B", "KiB", "MiB", "GiB", "KB", "MB", "GB", "K", "M", "G", "k", "d", "h", "m", "min", "s", "ms", "us", "µs",
    "t/s", "tokens/s",
];

/// Whether `output` has the shape of `shown`.
pub fn has_shape(shown: &str, output: &str) -> Result<(), String> {
    let (shown, output) = (lines(shown), lines(output));
    let mut rest: &[String] = &output;
    let mut may_skip = false;
    for line in &shown {
        if line == "…" {
            may_skip = true;
            continue;
        }
        let found = rest.iter().position(|candidate| line_matches(line, candidate));
        match found {
            Some(index) if index == 0 || may_skip => rest = &rest[index + 1..],
            _ => return Err(format!("no {line:?} where the output goes on with {:?}", rest.first())),
        }
        may_skip = false;
    }
    if rest.is_empty() || may_skip { Ok(()) } else { Err(format!("the output also has {:?}", rest[0])) }
}

/// Whether each line of `shown` is in `output`, in this order, whatever is between.
pub fn has_lines(shown: &str, output: &str) -> bool {
    let output = lines(output);
    let mut rest = output.iter();
    lines(shown).iter().filter(|line| *line != "…").all(|line| rest.any(|candidate| line_matches(line, candidate)))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(normalized).filter(|line| !line.is_empty()).collect()
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|head| line.strip_prefix(head.trim_end())) else { return false };
    let mut parts = parts.map(str::trim).peekable();
    let is_open = parts.peek().is_some();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(index) = rest.find(part) else { return false };
        rest = &rest[index + part.len()..];
    }
    is_open || rest.is_empty()
}

/// The line with every number as `0`, every path as `/`, and single spaces.
fn normalized(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace().map(normalized_word) {
        let after_number = words.last().is_some_and(|last| last.trim_start_matches(['(', '[', '"']) == "0");
        if after_number && UNITS.contains(&word.trim_end_matches([',', ';', ')', '.'])) {
            continue;
        }
        if after_number && word == "0" {
            continue;
        }
        words.push(word);
    }
    words.join(" ")
}

fn normalized_word(word: &str) -> String {
    let is_rule = word.chars().count() > 2 && word.chars().all(|letter| "─-=━".contains(letter));
    if is_rule {
        return "─".to_owned();
    }
    if let Some((before, path)) = word.split_once('/')
        && !path.is_empty()
        && (before.is_empty() || ["\"", "'", "(", "unix:", "`"].contains(&before))
        && !path.contains('…')
    {
        return format!("{before}/");
    }
    let mut text = String::new();
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            while letters.next_if(|next| next.is_ascii_digit() || *next == '.' || *next == ':').is_some() {}
            // A minus or a point between two numbers, and hexadecimal names.
            if !text.ends_with('0') {
                text.push('0');
            }
        } else {
            text.push(letter);
        }
    }
    let bare = text.trim_end_matches([',', ';', ')']);
    if let Some(unit) = bare.strip_prefix('0')
        && UNITS.contains(&unit)
    {
        return text.replacen(bare, "0", 1);
    }
    let name = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let is_hexadecimal = name.len() >= 8 && name.chars().all(|letter| letter.is_ascii_hexdigit());
    if is_hexadecimal { word.replacen(name, "0", 1) } else { text }
}

#[test]
fn numbers_units_paths_and_widths_may_differ_and_words_may_not() {
    let shown = "SERVER  PHASE  UPTIME\nqwen3   ready  1m 12s\n";
    has_shape(shown, "SERVER PHASE UPTIME\nqwen3  ready     340 ms\n").unwrap();
    has_shape("pid 7, 1.5 MiB at /a/b", "pid 12345, 900KiB at /c").unwrap();
    has_shape("hash = \"00ff00ff00ff\"", "hash = \"abcdef0123456789\"").unwrap();
    has_shape("a … z", "a b c z").unwrap();
    has_shape("a\n…\nz", "a\nb\nc\nz").unwrap();
    has_shape("http://127.0.0.1:9888/", "http://127.0.0.1:40001/").unwrap();
    let unlike = [
        (shown, "SERVER  PHASE  UPTIME\nqwen3   failed  1s\n"),
        (shown, "SERVER  PHASE  UPTIME\n"),
        ("a\nz", "a\nb\nz"),
        ("a", "a\nb"),
        ("a … z", "a b"),
        ("pid 7", "pid unknown"),
    ];
    for (shown, output) in unlike {
        assert!(has_shape(shown, output).is_err(), "{shown:?} is not {output:?}");
    }
}

#[test]
fn lines_are_awaited_in_their_order() {
    assert!(has_lines("a\nz 1", "x\na\ny\nz 22"));
    assert!(!has_lines("z\na", "a\nz"));
}
