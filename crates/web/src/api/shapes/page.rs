//! Lists, in pages.

use std::{borrow::Cow, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

use crate::api::Refusal;

/// So many are given where nothing is said.
const USUAL: u16 = 100;
/// So many at most.
const MOST: u16 = 500;

/// A part of a list.
#[derive(Serialize)]
pub(crate) struct Page<T> {
    /// What is in it.
    pub(crate) items: Vec<T>,
    /// What to give as `after` for the next part; null at the end.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is never long.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

// By hand, since the derived one leaves out the schema of what is in the list.
impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new().items(Ref::from_schema_name(T::name()));
        let text_or_null = SchemaType::from_iter([Type::String, Type::Null]);
        let next = ObjectBuilder::new()
            .schema_type(text_or_null)
            .description(Some("What to give as `after` for the next part; null at the end."));
        ObjectBuilder::new()
            .description(Some("A part of a list."))
            .property("items", items)
            .required("items")
            .property("next", next)
            .required("next")
            .into()
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("PageOf{}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// Which part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// The `next` of the part before.
    pub(crate) after: Option<String>,
    /// How many at most: 1 to 500, usually 100.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<u16>,
}

/// The part of `all` that is asked for, in the order of `key`, which names each one.
pub(crate) fn page<T, U, K>(
    mut all: Vec<T>,
    paging: &Paging,
    key: impl Fn(&T) -> K,
) -> Result<Page<U>, Refusal>
where
    K: Ord + FromStr + ToString,
    U: From<T>,
{
    let limit = match paging.limit.unwrap_or(USUAL) {
        limit @ 1..=MOST => usize::from(limit),
        _ => return Err(Refusal::invalid(format!("limit: choose 1 to {MOST}."))),
    };
    all.sort_by_cached_key(&key);
    if let Some(after) = &paging.after {
        let after: K = after
            .parse()
            .map_err(|_| Refusal::invalid("after: give what the part before said in \"next\"."))?;
        all.retain(|one| key(one) > after);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(|last| key(last).to_string());
    Ok(Page { items: all.into_iter().map(U::from).collect(), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(after: Option<&str>, limit: Option<u16>) -> Option<(Vec<u32>, Option<String>)> {
        let paging = Paging { after: after.map(str::to_owned), limit };
        let part: Result<Page<u32>, _> = page(vec![5_u32, 3, 1], &paging, |number| *number);
        part.ok().map(|page| (page.items, page.next))
    }

    #[test]
    fn a_list_is_read_to_its_end_whatever_is_removed_meanwhile() {
        assert_eq!(part(None, Some(2)), Some((vec![1, 3], Some("3".into()))));
        assert_eq!(part(Some("3"), Some(2)), Some((vec![5], None)));
        assert_eq!(part(Some("4"), None), Some((vec![5], None)));
        assert_eq!(part(Some("9"), None), Some((vec![], None)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(part(None, Some(0)), None);
        assert_eq!(part(None, Some(501)), None);
        assert_eq!(part(Some("x"), None), None);
    }
}
