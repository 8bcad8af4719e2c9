//! Values as people say them, and the small answers that every page gives.

use std::time::Duration;

use askama::Template;
use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{Html, IntoResponse, Response},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::problem::Problem;

/// A moment in both forms.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// `3 h ago`
    pub(crate) words: String,
    /// To the second, in UTC.
    pub(crate) exact: String,
}

impl Moment {
    pub(crate) fn new(at: OffsetDateTime) -> Self {
        Self::seen_from(at, OffsetDateTime::now_utc())
    }

    fn seen_from(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        let words = match Duration::try_from(now - at) {
            Ok(past) if past < Duration::from_secs(60) => "just now".to_owned(),
            Ok(past) => format!("{} ago", span(past)),
            Err(_) => format!("in {}", span(rounded((at - now).unsigned_abs()))),
        };
        let exact = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
        Self { words, exact: exact.format(&Rfc3339).unwrap_or_default() }
    }
}

/// So that [`span`] gives the nearest: of 90 days, 90 are left a moment later, too.
fn rounded(time: Duration) -> Duration {
    let half = match time.as_secs() {
        0..60 => 0,
        60..3600 => 30,
        3600..172_800 => 1800,
        _ => 43_200,
    };
    time + Duration::from_secs(half)
}

/// A time in the unit that a person uses, rounded down.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long something takes, as far as the last time tells: `about 0.2 s`.
pub(crate) fn about(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 0.1 => "less than 0.1 s".to_owned(),
        seconds if seconds < 9.5 => format!("about {seconds:.1} s").replace(".0 s", " s"),
        seconds if seconds < 90.0 => format!("about {seconds:.0} s"),
        seconds => format!("about {:.0} min", seconds / 60.0),
    }
}

/// An amount of memory or disk.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64 / 1024.0, "KB");
    for next in UNITS.into_iter().skip(1) {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let digits = usize::from(value < 10.0 && value.fract() > 0.05);
    format!("{value:.digits$} {unit}")
}

/// What a browser calls itself, in the words of its user: `Firefox on Linux`.
pub(crate) fn browser(agent: &str) -> String {
    let first = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    // Those that pretend to be another one come before it.
    let name = first(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        (Some(name), None) => name.to_owned(),
        (None, Some(system)) => format!("A program on {system}"),
        (None, None) => "An unknown program".to_owned(),
    }
}

/// A line that somebody typed, fit to be kept and shown: at most so many characters, none that steers a terminal or
/// turns the direction of the text around it.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.trim().chars().filter(|c| !steers(*c)).take(most).collect()
}

/// A page.
pub(crate) fn show(status: StatusCode, page: &impl Template) -> Result<Response, Problem> {
    Ok((status, html(page.render()?)).into_response())
}

pub(crate) fn html(page: String) -> Response {
    Html(page).into_response()
}

/// Data for a script of ours.
pub(crate) fn json(value: &serde_json::Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// To another page of this site, which is then read (303: also after a form).
pub(crate) fn go(path: &str) -> Response {
    match HeaderValue::try_from(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response(),
        Err(_) => Problem::broken().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_near_or_far() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let words = |seconds: i64| Moment::seen_from(now + time::Duration::seconds(seconds), now).words;
        assert_eq!(words(0), "just now");
        assert_eq!(words(-59), "just now");
        assert_eq!(words(-60), "1 min ago");
        assert_eq!(words(-3 * 3600 - 59), "3 h ago");
        assert_eq!(words(-47 * 3600), "47 h ago");
        assert_eq!(words(-3 * 86_400), "3 days ago");
        assert_eq!(words(300), "in 5 min");
        assert_eq!(Moment::seen_from(now, now).exact, "2001-09-09T01:46:40Z");
    }

    #[test]
    fn what_something_takes_is_about_so_much() {
        let words = |millis| about(Duration::from_millis(millis));
        assert_eq!(words(71), "less than 0.1 s");
        assert_eq!(words(183), "about 0.2 s");
        assert_eq!(words(7_960), "about 8 s");
        assert_eq!(words(14_700), "about 15 s");
        assert_eq!(words(130_000), "about 2 min");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 KB");
        assert_eq!(size(12 << 20), "12 MB");
        assert_eq!(size(1 << 30), "1 GB");
        assert_eq!(size(3 << 29), "1.5 GB");
        assert_eq!(size(10 << 30), "10 GB");
        assert_eq!(size(u64::MAX), "16777216 TB");
    }

    #[test]
    fn what_was_typed_is_one_plain_line() {
        assert_eq!(plain("  Zoë’s\tlaptop\r\n", 64), "Zoë’slaptop");
        assert_eq!(plain("\u{1b}[31mred\u{202e}", 64), "[31mred");
        assert_eq!(plain("abcdef", 3), "abc");
    }

    #[test]
    fn browsers_are_called_by_their_names() {
        assert_eq!(
            browser("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            "Firefox on Linux"
        );
        let edge = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0";
        assert_eq!(browser(edge), "Edge on Windows");
        assert_eq!(browser("<script>"), "An unknown program");
    }
}
