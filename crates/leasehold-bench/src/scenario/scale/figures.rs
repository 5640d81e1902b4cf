//! Figures as the tables show them, and the seed of all.

use std::time::Duration;

pub(super) const SEED: u64 = 20_261_125;

pub(super) const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// For a table: so many a second.
pub(super) fn rate(count: f64, window: Duration) -> String {
    let rate = count / window.as_secs_f64();
    if rate >= 10.0 {
        grouped(rate)
    } else {
        format!("{rate:.2}")
    }
}

/// For a table: a share of all.
pub(super) fn share(part: u64, all: u64) -> String {
    if all == 0 {
        return "–".to_owned();
    }
    format!("{:.1} %", part as f64 / all as f64 * 100.0)
}

/// For a table: dollars a month.
pub(super) fn monthly(dollars: f64) -> String {
    if dollars >= 100.0 {
        format!("${}", grouped(dollars))
    } else {
        format!("${dollars:.2}")
    }
}

/// A whole number with commas.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// For a table: seconds or milliseconds.
pub(super) fn time(time: Duration) -> String {
    if time >= s(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else if time >= s(1) {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{} ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(grouped(12.0), "12");
        assert_eq!(rate(1.0, s(2)), "0.50");
        assert_eq!(share(1, 4), "25.0 %");
        assert_eq!(monthly(1_642.5), "$1,642");
        assert_eq!(time(s(12)), "12.0 s");
    }
}
