//! `/ops/accounts/NAME/limits`: what one account may have.

use axum::response::Response;
use berth_control::{Limits, OwnLimits, WebError};

use super::account;
use crate::{
    asked::Named,
    fields::Fields,
    problem::Problem,
    visitor::{Member, Operator},
    words::{self, size},
};

/// As much as a field takes.
const MAX_FIELD: usize = 16;
const GB: f64 = (1_u64 << 30) as f64;
/// More is a slip.
const MOST_GB: f64 = 1_000_000.0;

/// One field of the form.
pub(crate) struct LimitField {
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    /// What is set for the account alone; empty for nothing.
    pub(crate) value: String,
    pub(crate) hint: String,
    pub(crate) wrong: String,
}

/// The form as the account's limits are.
///
/// # Errors
/// They cannot be found out now.
pub(crate) async fn fields(
    member: &Member,
    name: &berth_model::AccountName,
) -> Result<Vec<LimitField>, Problem> {
    let (own, _) = member.acting.limits(name).await?;
    let all = member.acting.limits_of_all();
    Ok(form(own, all))
}

fn form(own: OwnLimits, all: Limits) -> Vec<LimitField> {
    let count = |count: u32| if count == u32::MAX { "no limit".to_owned() } else { count.to_string() };
    let bytes = |bytes: u64| if bytes == u64::MAX { "no limit".to_owned() } else { size(bytes) };
    let field = |id, label, value: Option<String>, all: String| LimitField {
        id,
        label,
        value: value.unwrap_or_default(),
        hint: format!("Left empty, what holds for all: {all}."),
        wrong: String::new(),
    };
    let in_gb = |bytes: u64| {
        format!("{:.3}", bytes as f64 / GB).trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    vec![
        field("vms", "VMs", own.vms.map(|vms| vms.to_string()), count(all.vms)),
        field("cpus", "CPUs", own.cpus.map(|cpus| cpus.to_string()), count(all.cpus)),
        field("memory", "Memory in GB", own.memory.map(in_gb), bytes(all.memory)),
        field("disk", "Disk in GB", own.disk.map(in_gb), bytes(all.disk)),
    ]
}

/// What somebody typed, or the fields with what is wrong with them.
fn read(fields: &Fields, mut form: Vec<LimitField>) -> Result<OwnLimits, Vec<LimitField>> {
    const NO_NUMBER: &str = "That is no number.";
    let mut set = OwnLimits::default();
    for field in &mut form {
        let typed = words::plain(fields.get(field.id), MAX_FIELD).replace(',', ".");
        let read = match field.id {
            "vms" => count(&typed).map(|count| set.vms = count),
            "cpus" => count(&typed).map(|count| set.cpus = count),
            "memory" => gigabytes(&typed).map(|bytes| set.memory = bytes),
            _ => gigabytes(&typed).map(|bytes| set.disk = bytes),
        };
        if read.is_none() {
            field.wrong = NO_NUMBER.to_owned();
        }
        field.value = typed;
    }
    if form.iter().all(|field| field.wrong.is_empty()) { Ok(set) } else { Err(form) }
}

fn count(typed: &str) -> Option<Option<u32>> {
    if typed.is_empty() { Some(None) } else { typed.parse().ok().map(Some) }
}

fn gigabytes(typed: &str) -> Option<Option<u64>> {
    if typed.is_empty() {
        return Some(None);
    }
    let plain = typed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = typed.parse::<f64>().ok().filter(|number| plain && (0.0..=MOST_GB).contains(number))?;
    Some(Some((number * GB) as u64))
}

pub(crate) async fn set(
    Operator(member): Operator,
    Named(name): Named,
    typed: Fields,
) -> Result<Response, Problem> {
    let info = account::find(&member, &name).await?;
    match read(&typed, fields(&member, &info.name).await?) {
        Ok(limits) => {
            let done: Result<(), WebError> = member.acting.set_limits(&info.name, limits).await;
            account::after(&member, info, done).await
        }
        Err(limits) => account::with_limits_refused(&member, info, limits).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_numbers_or_nothing() {
        assert_eq!(count(""), Some(None));
        assert_eq!(count("5"), Some(Some(5)));
        assert_eq!(gigabytes("0.5"), Some(Some(1 << 29)));
        assert_eq!(gigabytes(""), Some(None));
        for wrong in ["-1", "five", "1e9", "inf", "NaN", "9999999999", "1 GB"] {
            assert_eq!((count(wrong), gigabytes(wrong)), (None, None), "{wrong}");
        }
    }

    #[test]
    fn the_form_shows_what_is_set_and_what_holds_without() {
        let own = OwnLimits { vms: Some(7), memory: Some(3 << 29), ..OwnLimits::default() };
        let form = form(own, Limits { cpus: 20, ..Limits::NONE });
        let shown: Vec<_> = form.iter().map(|field| field.value.as_str()).collect();
        assert_eq!(shown, ["7", "", "1.5", ""]);
        assert_eq!(form[1].hint, "Left empty, what holds for all: 20.");
        assert_eq!(form[3].hint, "Left empty, what holds for all: no limit.");
    }
}
