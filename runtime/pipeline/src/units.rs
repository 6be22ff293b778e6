//! Durations and sizes as people write them.

/// `250ms`, `10s`, `5m`, `2h`, `7d`, and sums of them (`1h30m`), in milliseconds.
pub fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let scale = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = after;
    }
    Some(total)
}

/// `4096`, `64KiB`, `32MiB`, `1GiB`, and `KB`, `MB`, `GB` in thousands.
pub fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let scale: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// `200ms..10s`.
pub fn duration_range_ms(text: &str) -> Option<(u64, u64)> {
    let (low, high) = text.split_once("..")?;
    let (low, high) = (duration_ms(low)?, duration_ms(high)?);
    (low <= high).then_some((low, high))
}

/// Milliseconds since 1970 UTC of a time with an offset; `None` without one.
pub fn epoch_ms(time: &toml::value::Datetime) -> Option<i64> {
    let (date, clock) = (time.date?, time.time?);
    let offset_minutes = match time.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_epoch(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let seconds = days * 86_400 + i64::from(clock.hour) * 3_600 + i64::from(clock.minute) * 60 - offset_minutes * 60;
    let seconds = seconds + i64::from(clock.second.unwrap_or(0));
    Some(seconds * 1_000 + i64::from(clock.nanosecond.unwrap_or(0)) / 1_000_000)
}

/// Days of the Gregorian calendar, in years that begin in March so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (month * 153 + 2) / 5;
    before_year + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_people_write() {
        assert_eq!(duration_ms("500ms"), Some(500));
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("10"), None);
        assert_eq!(duration_ms("s"), None);
        assert_eq!(duration_ms("300000000000d"), None);
        assert_eq!(size_bytes("64MiB"), Some(64 << 20));
        assert_eq!(size_bytes("12 KB"), Some(12_000));
        assert_eq!(size_bytes("12x"), None);
        assert_eq!(duration_range_ms("200ms..10s"), Some((200, 10_000)));
        assert_eq!(duration_range_ms("10s..1s"), None);
    }

    #[test]
    fn times_are_utc() {
        let ms = |text: &str| epoch_ms(&text.parse().unwrap());
        assert_eq!(ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(ms("2000-02-29T12:00:00.5+02:00"), Some(951_818_400_500));
        assert_eq!(ms("1969-12-31T23:59:59Z"), Some(-1_000));
        assert_eq!(ms("2026-01-01T00:00:00"), None);
    }
}
