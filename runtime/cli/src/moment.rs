//! Moments as people write and read them.

use anyhow::{Result, anyhow};

/// Wall time in milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// `10m` (ago) or `2026-01-31T12:00:00Z`, in milliseconds since 1970 UTC.
pub fn since(text: &str) -> Result<i64> {
    let ago = pipeline::duration_ms(text).and_then(|ms| i64::try_from(ms).ok());
    if let Some(ago) = ago {
        return Ok(now_ms() - ago);
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_millisecond()).map_err(|_| {
        anyhow!("`{text}` is no time: say how long ago, as 10m, 2h or 3d, or a time such as 2026-01-31T12:00:00Z")
    })
}

/// `2026-01-31T12:00:00.25Z`; the number where it is no time.
pub fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// How long before `now`: `3 min 5 s`.
pub fn age(at: i64, now: i64) -> String {
    crate::show::duration(now.saturating_sub(at).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn since_takes_durations_and_times() {
        assert_eq!(since("2026-01-31T12:00:00Z").unwrap(), 1_769_860_800_000);
        assert_eq!(utc(1_769_860_800_250), "2026-01-31T12:00:00.25Z");
        let hour = since("1h").unwrap();
        assert!((now_ms() - 3_600_000 - hour).abs() < 60_000);
        assert!(
            since("yesterday")
                .unwrap_err()
                .to_string()
                .contains("`yesterday` is no time")
        );
    }
}
