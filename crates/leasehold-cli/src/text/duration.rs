//! Durations of options and messages.
//!
//! A duration of an option needs a unit: `20s`, `500ms`, `1m30s`. A bare number is refused: it could mean
//! seconds or milliseconds. Only a wait of `0` needs no unit.

use std::time::Duration;

use jiff::SignedDuration;

const EXAMPLES: &str = "write it as `20s`, `500ms`, `1m30s` or `24h`";

/// Reads a duration of an option.
///
/// # Errors
///
/// A fragment for a message, and a `hint:` line.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(match text.strip_prefix('-') {
            Some(_) => format!("a duration cannot be negative\nhint: {EXAMPLES}"),
            None => format!(
                "a duration needs a unit\nhint: write `{text}s` for seconds or `{text}ms` for milliseconds"
            ),
        });
    }
    let parsed: SignedDuration = text.parse().map_err(|_| {
        format!("not a duration\nhint: {EXAMPLES}; the units are h, m, s, ms, us and ns")
    })?;
    Duration::try_from(parsed)
        .map_err(|_| format!("a duration cannot be negative\nhint: {EXAMPLES}"))
}

/// Reads the duration of a wait. `0` means no wait, and needs no unit.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_wait(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => parse(text),
    }
}

/// A duration for people: `1m 30s`, `14s`, `300ms`. Whole seconds from one second on.
pub(crate) fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    // At most two units.
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

/// Milliseconds for JSON.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        for (text, millis) in [
            ("20s", 20_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1.5s", 1_500),
            ("2h", 7_200_000),
            ("5000us", 5),
            ("5000000ns", 5),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn bare_numbers_are_refused_with_the_unit_that_is_missing() {
        for text in ["15", "1.5", "0"] {
            let refused = parse(text).expect_err("no unit");
            assert!(refused.contains("needs a unit"), "{refused}");
            assert!(refused.contains(&format!("`{text}s`")), "{refused}");
        }
    }

    #[test]
    fn only_a_wait_of_0_needs_no_unit() {
        assert_eq!(parse_wait("0"), Ok(Duration::ZERO));
        assert_eq!(parse_wait("1s"), Ok(Duration::from_secs(1)));
        assert!(parse_wait("1").is_err());
    }

    #[test]
    fn negative_ones_are_refused_as_such() {
        for text in ["-3", "-3s", "3s ago"] {
            let refused = parse(text).expect_err("negative");
            assert!(refused.contains("cannot be negative"), "{refused}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "soon", "20 parsecs", "1d", "inf"] {
            let refused = parse(text).expect_err(text);
            assert!(refused.contains("hint: "), "{text}: {refused}");
        }
    }

    #[test]
    fn shown_in_two_units() {
        for (millis, text) in [
            (0, "0ms"),
            (300, "300ms"),
            (1_999, "1s"),
            (90_000, "1m 30s"),
            (120_000, "2m"),
            (3_661_000, "1h 1m"),
            (86_400_000 + 59_000, "1d"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }
}
