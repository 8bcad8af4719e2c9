//! Lists a page at a time.

/// So many rows are on a page.
pub(crate) const ROWS: usize = 50;

/// The links below a list.
pub(crate) struct Pager {
    /// To its beginning, where this is not it.
    pub(crate) first: Option<String>,
    /// To what comes after it.
    pub(crate) next: Option<String>,
}

impl Pager {
    /// Of the list at `path` that was asked for with these parameters, of which those that are empty say nothing. `here`
    /// is after what this page begins, `last` what stands last on a page after which there is more.
    pub(crate) fn new(path: &str, asked: &[(&str, &str)], here: Option<&str>, last: Option<&str>) -> Self {
        Self {
            first: here.map(|_| address(path, asked, "")),
            next: last.map(|last| address(path, asked, last)),
        }
    }
}

fn address(path: &str, asked: &[(&str, &str)], after: &str) -> String {
    let after = [("after", after)];
    let said = asked.iter().chain(&after).filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_goes_along() {
        let pager = Pager::new("/ops/vms", &[("q", "a&b"), ("state", "")], Some("x"), Some("vm-1.a.b"));
        assert_eq!(pager.first.unwrap(), "/ops/vms?q=a%26b");
        assert_eq!(pager.next.unwrap(), "/ops/vms?q=a%26b&after=vm-1.a.b");
        let only = Pager::new("/team", &[("q", "")], None, None);
        assert_eq!((only.first, only.next), (None, None));
        assert_eq!(Pager::new("/team", &[("q", "")], Some("x"), None).first.unwrap(), "/team");
    }
}
