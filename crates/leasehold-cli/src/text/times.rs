//! Times in messages and JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use leasehold::clock::{Clock, SystemClock};

use crate::text::duration;

/// For programs: RFC 3339, UTC.
pub(crate) fn utc(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| time.to_string())
}

/// The same of milliseconds since the Unix epoch.
pub(crate) fn utc_ms(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| "unknown".to_owned(), |time| time.to_string())
}

/// For people: the local time.
pub(crate) fn clock(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(
        |_| "unknown".to_owned(),
        |stamp| {
            let zoned = stamp.to_zoned_datetime(TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
        },
    )
}

/// For people: the local time, and the distance from now.
pub(crate) fn local(time: SystemTime) -> String {
    let Ok(stamp) = Timestamp::try_from(time) else {
        return "unknown".to_owned();
    };
    let zoned = stamp.to_zoned_datetime(TimeZone::system());
    format!(
        "{} ({})",
        zoned.strftime("%Y-%m-%d %H:%M:%S %z"),
        relative(time)
    )
}

/// For people: the local time of the day.
pub(crate) fn of_day(time: SystemTime) -> String {
    let clock = clock(time);
    clock.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// How long until then; `None` if it has passed.
pub(crate) fn left(time: SystemTime) -> Option<Duration> {
    time.duration_since(now()).ok()
}

/// `3m 12s ago` or `in 14s`.
pub(crate) fn relative(time: SystemTime) -> String {
    match time.duration_since(now()) {
        Ok(ahead) if ahead >= Duration::from_secs(1) => format!("in {}", duration::show(ahead)),
        Ok(_) => "now".to_owned(),
        Err(error) => format!("{} ago", duration::show(error.duration())),
    }
}

/// How long ago it was.
pub(crate) fn age(time: SystemTime) -> String {
    duration::show(now().duration_since(time).unwrap_or_default())
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(SystemClock.wall_unix_ms().unsigned_abs())
}
