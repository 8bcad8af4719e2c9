//! Between columns and values: a row that cannot be read is an error that names the column.

use std::{error::Error, str::FromStr, time::Duration};

use berth_model::{AccountName, VmName, VmNumber};
use time::OffsetDateTime;

use crate::StoreError;

const NANOS_PER_MILLI: i128 = 1_000_000;

/// Rounds down to the millisecond.
pub(crate) fn to_millis(at: OffsetDateTime) -> i64 {
    saturate(at.unix_timestamp_nanos().div_euclid(NANOS_PER_MILLI))
}

pub(crate) fn time(what: &'static str, millis: i64) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * NANOS_PER_MILLI)
        .map_err(|source| unreadable(what, source))
}

pub(crate) fn optional_time(
    what: &'static str,
    millis: Option<i64>,
) -> Result<Option<OffsetDateTime>, StoreError> {
    millis.map(|millis| time(what, millis)).transpose()
}

pub(crate) fn duration(what: &'static str, millis: i64) -> Result<Duration, StoreError> {
    number(what, millis).map(Duration::from_millis)
}

/// A column of text as the value that it stands for.
pub(crate) fn text<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    text.parse().map_err(|source| unreadable(what, source))
}

/// Whose a VM is.
fn owner(text: &str) -> Result<AccountName, StoreError> {
    AccountName::owner_from(text).map_err(|source| unreadable("VM's owner", source))
}

/// The name of a VM, from the columns that it stands in.
pub(crate) fn vm_name(of: i64, whose: &str, team: &str) -> Result<VmName, StoreError> {
    Ok(VmName {
        number: VmNumber(number("VM's number", of)?),
        owner: owner(whose)?,
        team: text("VM's team", team)?,
    })
}

pub(crate) fn number<T>(what: &'static str, number: i64) -> Result<T, StoreError>
where
    T: TryFrom<i64, Error: Error + Send + Sync + 'static>,
{
    T::try_from(number).map_err(|source| unreadable(what, source))
}

/// The nearest number that a column can hold.
pub(crate) fn saturate<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(crate) fn unreadable(what: &'static str, source: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unreadable { what, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_keep_their_milliseconds_before_and_after_1970() {
        for at in [datetime!(2026-03-01 10:00:00.123 UTC), datetime!(1969-12-31 23:59:59.999 UTC)] {
            assert_eq!(time("t", to_millis(at)).unwrap(), at);
        }
        assert_eq!(to_millis(datetime!(1969-12-31 23:59:59.999_9 UTC)), -1);
    }

    #[test]
    fn what_cannot_be_read_names_the_column() {
        let error = time("created_at", i64::MAX).unwrap_err();
        assert_eq!(
            error.to_string(),
            "The database has a created_at that this version of Berth cannot read."
        );
        assert!(number::<u32>("cpus", -1).is_err());
    }

    #[test]
    fn sizes_saturate() {
        assert_eq!(saturate(u64::MAX), i64::MAX);
        assert_eq!(saturate(7_u64), 7);
    }
}
