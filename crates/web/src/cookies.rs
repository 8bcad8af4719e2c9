//! The cookies of this site: the log-in session's, one that marks the forms of somebody who is not logged in, and one for
//! who is on the way to log in with an account elsewhere. And the one that a browser gets from a host of a VM: the pass
//! for the sites there that not everybody may see.
//!
//! Over https all have the `__Host-` prefix, with which a browser keeps them to this very host and lets no other page,
//! such as one served by a VM, put one in their place. Over plain HTTP, which is for the loopback alone, browsers refuse
//! that prefix because it demands `Secure`; so there they have other names, which can never be taken for the strong ones.

use berth_control::SITE_PASS_LIFE;

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};

/// Which cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// The log-in session. Lasts as long as the server says; the browser keeps it for as long as it may.
    LogIn,
    /// What forms of somebody unknown are compared with. Ends with the browser.
    Form,
    /// What the issuer of another account was asked in this browser. Five minutes, as its answer is good for.
    Oidc,
    /// The pass for one host of a VM, where alone it is set.
    Pass,
}

/// The most that a log-in session lasts, in seconds: 90 days.
const LONGEST: u32 = 90 * 24 * 3600;
/// No value of ours is longer.
const MAX_VALUE: usize = 512;

impl Cookie {
    fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::LogIn, true) => "__Host-berth",
            (Self::LogIn, false) => "berth-on-loopback",
            (Self::Form, true) => "__Host-berth-form",
            (Self::Form, false) => "berth-form-on-loopback",
            (Self::Oidc, true) => "__Host-berth-oidc",
            (Self::Oidc, false) => "berth-oidc-on-loopback",
            (Self::Pass, true) => "__Host-berth-pass",
            (Self::Pass, false) => "berth-pass-on-loopback",
        }
    }

    /// Whether a cookie of this name is one of these, which no VM gets to see or to set.
    pub(crate) fn is_ours(name: &str) -> bool {
        let all = [Self::LogIn, Self::Form, Self::Oidc, Self::Pass];
        all.iter()
            .any(|cookie| [true, false].iter().any(|secure| cookie.name(*secure).eq_ignore_ascii_case(name)))
    }

    /// Its value, if the request has exactly one. Two of one name mean that somebody else put one there: none counts.
    pub(crate) fn read(self, headers: &HeaderMap, secure: bool) -> Option<String> {
        let lists = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = lists.flat_map(|list| list.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == self.name(secure)).map(|(_, value)| value);
        let (value, None) = (values.next()?, values.next()) else { return None };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = !value.is_empty() && value.len() <= MAX_VALUE && value.chars().all(plain);
        fits.then(|| value.to_owned())
    }

    /// The header that sets it. `SameSite=Lax`: a link from elsewhere opens the page logged in, a form from elsewhere
    /// is sent without it.
    pub(crate) fn set(self, value: &str, secure: bool) -> Option<HeaderValue> {
        let age = match self {
            Self::LogIn => format!("; Max-Age={LONGEST}"),
            Self::Form => String::new(),
            Self::Oidc => "; Max-Age=300".to_owned(),
            Self::Pass => format!("; Max-Age={}", SITE_PASS_LIFE.as_secs()),
        };
        self.header(value, &age, secure)
    }

    /// The header that takes it back.
    pub(crate) fn clear(self, secure: bool) -> Option<HeaderValue> {
        self.header("", "; Max-Age=0", secure)
    }

    /// `None` for a value that fits in no header, which no value of ours is.
    fn header(self, value: &str, age: &str, secure: bool) -> Option<HeaderValue> {
        let strong = if secure { "; Secure" } else { "" };
        let name = self.name(secure);
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{strong}{age}");
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str, secure: bool) -> Option<String> {
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(header).unwrap())]);
        Cookie::LogIn.read(&headers, secure)
    }

    #[test]
    fn exactly_one_plain_value_counts() {
        assert_eq!(read("a=b; __Host-berth=abc-_9; c=d", true).as_deref(), Some("abc-_9"));
        assert_eq!(read("__Host-berth=abc; __Host-berth=def", true), None);
        assert_eq!(read("__Host-berth=", true), None);
        assert_eq!(read("__Host-berth=a\"b", true), None);
        assert_eq!(read(&format!("__Host-berth={}", "a".repeat(513)), true), None);
    }

    #[test]
    fn the_weak_name_is_nothing_over_https() {
        assert_eq!(read("berth-on-loopback=abc", true), None);
        assert_eq!(read("__Host-berth=abc", false), None);
        assert_eq!(read("berth-on-loopback=abc", false).as_deref(), Some("abc"));
    }

    #[test]
    fn it_is_kept_to_this_host_and_out_of_scripts() {
        let set = Cookie::LogIn.set("abc", true).unwrap();
        assert_eq!(set, "__Host-berth=abc; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=7776000");
        let clear = Cookie::Form.clear(false).unwrap();
        assert_eq!(clear, "berth-form-on-loopback=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
        assert!(Cookie::LogIn.set("a\r\nb", true).is_none());
    }
}
