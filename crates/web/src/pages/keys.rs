//! `/account/keys`: the keys that let you in, and how to use them.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{AddedKey, Error, KeyInfo};
use berth_model::PasteError;

use crate::{
    Website,
    asked::Named,
    fields::Fields,
    frame::{Frame, Here},
    problem::{self, Problem},
    views::{FirstUse, KeyView},
    visitor::Member,
    way_in::{System, WayIn},
    words::{self, go},
};

/// The longest name of a key.
const MAX_LABEL: usize = 64;

#[derive(Template)]
#[template(path = "keys.html")]
struct Page {
    frame: Frame,
    keys: Vec<KeyView>,
    first_use: FirstUse,
    way: WayIn,
    judged: Vec<Judgement>,
    paste: String,
    label: String,
}

#[derive(Template)]
#[template(path = "key_rename.html")]
struct Rename {
    frame: Frame,
    key: KeyView,
}

#[derive(Template)]
#[template(path = "key_remove.html")]
struct Remove {
    frame: Frame,
    key: KeyView,
}

/// The parts of the page that change.
pub(crate) struct Lists {
    pub(crate) keys: Keys,
    pub(crate) first_use: First,
}

#[derive(Template)]
#[template(path = "keys_list.html")]
pub(crate) struct Keys {
    keys: Vec<KeyView>,
}

#[derive(Template)]
#[template(path = "first_use.html")]
pub(crate) struct First {
    first_use: FirstUse,
}

impl Lists {
    pub(crate) async fn of(member: &Member) -> Result<Self, Problem> {
        let keys = member.acting.keys(member.account()).await?;
        Ok(Self { keys: Keys { keys: views(&keys) }, first_use: First { first_use: FirstUse::of(&keys) } })
    }
}

fn views(keys: &[KeyInfo]) -> Vec<KeyView> {
    keys.iter().map(KeyView::new).collect()
}

/// What became of a key of a paste.
struct Judgement {
    good: bool,
    words: String,
    /// Also say how a new pair is made.
    new_pair: bool,
}

impl Judgement {
    fn bad(words: String) -> Self {
        Self { good: false, words, new_pair: false }
    }
}

impl From<AddedKey> for Judgement {
    fn from(judged: AddedKey) -> Self {
        match judged {
            AddedKey::Added { key } => Self {
                good: true,
                words: format!(
                    "{} is added and counts from now on. Fingerprint: {}",
                    key.label, key.fingerprint
                ),
                new_pair: false,
            },
            AddedKey::AlreadyThere { fingerprint } => Self {
                good: true,
                words: format!("You have this key already. Nothing was changed. Fingerprint: {fingerprint}"),
                new_pair: false,
            },
            AddedKey::Refused { reason } => Self::bad(reason),
        }
    }
}

impl Page {
    async fn new(website: &Website, member: &Member) -> Result<Self, Problem> {
        let keys = member.acting.keys(member.account()).await?;
        let vms = member.acting.vms(Some(member.account())).await?;
        let host = vms.into_iter().next().map(|vm| vm.host);
        Ok(Self {
            frame: Frame::new(&member.visitor, Here::Account("keys")).live("/live/keys".into()),
            first_use: FirstUse::of(&keys),
            keys: views(&keys),
            way: WayIn::new(website, &member.visitor, member.account().as_str(), host),
            judged: vec![],
            paste: String::new(),
            label: String::new(),
        })
    }
}

pub(crate) async fn show(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    words::show(StatusCode::OK, &Page::new(&website, &member).await?)
}

pub(crate) async fn add(
    State(website): State<Arc<Website>>,
    member: Member,
    fields: Fields,
) -> Result<Response, Problem> {
    let (paste, label) = (fields.get("key"), words::plain(fields.get("label"), MAX_LABEL));
    let name = Some(label.as_str()).filter(|label| !label.is_empty());
    let added = member.acting.add_keys(member.account(), paste, name).await;
    let judged: Vec<Judgement> = match added {
        Ok(judged) => judged.into_iter().map(Judgement::from).collect(),
        Err(Error::Paste(error @ PasteError::PrivateKey)) => {
            vec![Judgement { new_pair: true, ..Judgement::bad(error.to_string()) }]
        }
        Err(Error::Paste(error)) => vec![Judgement::bad(error.to_string())],
        Err(error) => return Err(error.into()),
    };
    let refused = judged.iter().any(|judged| !judged.good);
    let code = if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    // What was refused stays in the field to be mended, but never a private key.
    let private = judged.iter().any(|judged| judged.new_pair);
    let (paste, label) = if refused && !private { (kept(paste), label) } else { Default::default() };
    words::show(code, &Page { judged, paste, label, ..Page::new(&website, &member).await? })
}

/// So much of a paste is shown again, in its lines.
fn kept(paste: &str) -> String {
    const MOST: usize = 16 * 1024;
    paste.chars().filter(|c| !c.is_control() || c.is_whitespace()).take(MOST).collect()
}

/// A key of the member's, by its id alone: a label can look like another key's id.
async fn own_key(member: &Member, id: &str) -> Result<KeyInfo, Problem> {
    let keys = member.acting.keys(member.account()).await?;
    keys.into_iter().find(|key| key.id == id).ok_or_else(Problem::missing)
}

pub(crate) async fn show_rename(member: Member, Named(id): Named) -> Result<Response, Problem> {
    let key = KeyView::new(&own_key(&member, &id).await?);
    words::show(StatusCode::OK, &Rename { frame: Frame::new(&member.visitor, Here::Account("keys")), key })
}

pub(crate) async fn rename(member: Member, Named(id): Named, fields: Fields) -> Result<Response, Problem> {
    let key = own_key(&member, &id).await?;
    let label = words::plain(fields.get("label"), MAX_LABEL);
    match member.acting.rename_key(member.account(), &key.fingerprint.to_string(), &label).await {
        Ok(_) | Err(Error::NoSuchKey { .. }) => Ok(go("/account/keys")),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn show_remove(member: Member, Named(id): Named) -> Result<Response, Problem> {
    let key = KeyView::new(&own_key(&member, &id).await?);
    words::show(StatusCode::OK, &Remove { frame: Frame::new(&member.visitor, Here::Account("keys")), key })
}

pub(crate) async fn remove(member: Member, Named(id): Named) -> Result<Response, Problem> {
    let key = own_key(&member, &id).await?;
    match member.acting.remove_key(member.account(), &key.fingerprint.to_string()).await {
        Ok(_) | Err(Error::NoSuchKey { .. }) => Ok(go("/account/keys")),
        Err(error) => {
            Err(Problem::new(problem::status(error.kind()), problem::words(&error), "Nothing was done."))
        }
    }
}
