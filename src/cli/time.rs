//! Points in time as people write them: RFC 3339 in UTC, and back.

const MS_PER_DAY: i64 = 86_400_000;

/// `2026-01-02T03:04:05.678Z`; `-` for Kafka's "no timestamp".
pub(super) fn format_utc(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let (year, month, day) = date_of(ms / MS_PER_DAY);
    let rest = ms % MS_PER_DAY;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

/// Milliseconds since the Unix epoch, or RFC 3339 in UTC: a date, or a date and a time to the
/// second or millisecond, ending in `Z`.
pub(super) fn parse_utc(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms >= 0).then_some(ms);
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    if fraction.is_empty() || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms = format!("{fraction:0<3}").parse::<i64>().ok()?;
    let days = days_until(year, month, day);
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && date_of(days) == (year, month, day)
        && hour < 24
        && minute < 60
        && second < 60;
    in_range.then(|| days * MS_PER_DAY + hour * 3_600_000 + minute * 60_000 + second * 1000 + ms)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let parts: Option<Vec<i64>> = text
        .split(separator)
        .map(|part| {
            let digits = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        })
        .collect();
    parts?.try_into().ok()
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, years counted from March.
fn days_until(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_until`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_and_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_323_045_678, "2026-01-02T03:04:05.678Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_utc(ms), text);
            assert_eq!(parse_utc(text), Some(ms));
        }
        assert_eq!(format_utc(-1), "-");
    }

    #[test]
    fn every_day_comes_back() {
        for days in (0..2_900_000).step_by(13) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_until(year, month, day), days);
        }
    }

    #[test]
    fn short_forms_are_read_and_nonsense_is_not() {
        assert_eq!(parse_utc("1767323045678"), Some(1_767_323_045_678));
        assert_eq!(parse_utc("1970-01-02"), Some(MS_PER_DAY));
        assert_eq!(parse_utc("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(parse_utc("1970-01-01T00:00:01.5Z"), Some(1500));
        for text in [
            "",
            "-5",
            "2026-02-30",
            "2026-13-01",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00",
            "yesterday",
            "2026-1",
            "1970-01-01T00:00:01.Z",
            "9223372036854775807-01-01",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }
}
