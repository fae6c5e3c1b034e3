//! What is said of the requests of a server.

use jiff::Timestamp;
use llama_warden_api_types::{RequestReport, ServerReport, SlotsReport};
use llama_warden_support::for_cell;

use crate::server_text::age;

/// Generated tokens per second, for a column; empty where there were none in the last minute.
pub(crate) fn speed(server: &ServerReport) -> String {
    let speed = server.requests.as_ref().and_then(|requests| requests.decode_tokens_per_second);
    speed.map_or_else(String::new, rate)
}

/// What a person who names a server wants to know beside the table: its requests, and what became of what its slots held.
pub fn detail_lines(server: &ServerReport, now: Timestamp) -> String {
    let lines = std::iter::once(request_line(server, now)).chain(server.slots.as_ref().map(|slots| {
        let SlotsReport { state, tokens, bytes, because } = slots;
        let told = match because {
            Some(because) => format!("{state}: {}", for_cell(because)),
            None if *bytes > 0 => format!("{state}, {tokens} tokens in {:.1} MB", *bytes as f64 / 1e6),
            None => format!("{state}, {tokens} tokens"),
        };
        format!("{}: kept cache {told}", server.model_id)
    }));
    lines.collect::<Vec<_>>().join("\n")
}

/// The requests of a server in one line.
fn request_line(server: &ServerReport, now: Timestamp) -> String {
    let Some(requests) = &server.requests else {
        return format!("{}: prints no lines about requests, or has not started yet", server.model_id);
    };
    let RequestReport {
        count,
        prompt_tokens,
        decode_tokens,
        prompt_tokens_per_second,
        decode_tokens_per_second,
        slots_busy,
        last_at,
    } = requests;
    let plural = |number: u64, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let speed = |speed: &Option<f64>| speed.map_or_else(String::new, |speed| format!(" at {}/s", rate(speed)));
    let last = last_at.map_or_else(String::new, |at| {
        let seconds = now.as_second().saturating_sub(at.as_unix_seconds() as i64).max(0);
        format!(", the last {} ago", age(seconds as u64))
    });
    format!(
        "{}: {}{last}; {} read{}, {} generated{}; {} busy",
        server.model_id,
        plural(*count, "request"),
        plural(*prompt_tokens, "token"),
        speed(prompt_tokens_per_second),
        decode_tokens,
        speed(decode_tokens_per_second),
        plural(*slots_busy as u64, "slot"),
    )
}

/// Tokens per second with as many digits as mean something.
fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::Uptime;
    use llama_warden_state::{ServerRecord, SlotsState};

    use super::*;

    #[test]
    fn what_became_of_the_slots_is_a_line_of_its_own() {
        let told = |state, bytes, because: Option<&str>| {
            let slots = SlotsReport { state, tokens: 300, bytes, because: because.map(str::to_owned) };
            let server = ServerReport { slots: Some(slots), ..report(None) };
            detail_lines(&server, Timestamp::UNIX_EPOCH).lines().nth(1).expect("a line").to_owned()
        };
        assert_eq!(told(SlotsState::Saved, 7_107_576, None), "a: kept cache saved, 300 tokens in 7.1 MB");
        assert_eq!(told(SlotsState::Used, 0, None), "a: kept cache used, 300 tokens");
        assert_eq!(told(SlotsState::Off, 0, Some("it hung")), "a: kept cache off: it hung");
        assert_eq!(detail_lines(&report(None), Timestamp::UNIX_EPOCH).lines().count(), 1);
    }

    fn report(requests: Option<RequestReport>) -> ServerReport {
        let record = ServerRecord::new(card(&server("a")).into(), Uptime::default());
        ServerReport { requests, ..ServerReport::of(&server("a"), &record, Uptime::default()) }
    }

    #[test]
    fn the_requests_of_a_server_read_as_one_sentence() {
        let now: Timestamp = "2026-11-22T13:05:01Z".parse().expect("valid");
        let served = report(Some(RequestReport {
            count: 12,
            prompt_tokens: 240,
            decode_tokens: 96,
            prompt_tokens_per_second: Some(1234.56),
            decode_tokens_per_second: Some(31.25),
            slots_busy: 1,
            last_at: Some(llama_warden_events::Timestamp::new(now).before(std::time::Duration::from_secs(127))),
        }));
        assert_eq!(
            request_line(&served, now),
            "a: 12 requests, the last 2m07s ago; 240 tokens read at 1235/s, 96 generated at 31.2/s; 1 slot busy"
        );
        assert_eq!(speed(&served), "31.2");
        assert_eq!(speed(&report(None)), "");
        assert_eq!(request_line(&report(None), now), "a: prints no lines about requests, or has not started yet");
    }
}
