//! Every route: what it is, who may, and what its form must prove. The router is built from this table and from nothing
//! else, so no route is without its row.

use std::{fmt, sync::Arc};

use axum::{
    Router,
    handler::Handler,
    http::{Method, Uri},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};

use berth_control::Scope;

use crate::{
    Website,
    api::{self, Refusal, operation::Operation},
    guard::{self, Gate},
    live,
    metrics::{self, Asked},
    pages::{
        self, account, activity, confirm, disk, enter, environments, files, help, keys, link, log_in, oidc,
        ops, passkeys, people, ports, sessions, shared, team, tokens, vm,
    },
    problem::Problem,
    terminal,
};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Also somebody unknown.
    Anybody,
    /// Somebody who is logged in. Others are sent to log in.
    Member,
    /// Somebody who runs this Berth. For others there is no such page.
    Operator,
    /// A program with a token that is for this. Cookies count for nothing here.
    Token(Scope),
    /// Whatever watches this server: a program with an operator's token for reading, or one on this machine where the
    /// operator says so. Cookies count for nothing here.
    Monitor,
}

/// What a form must prove before it is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// There is none: the route only reads.
    None,
    /// There is none. It is the answer to what this very browser was sent elsewhere to ask for, once: a cookie that it was
    /// given says so, and the page looks.
    Asked,
    /// That a page of this site made it: by the browser's word (`Origin`, `Sec-Fetch-Site`) and by the token that was
    /// in it. It has at most so many bytes.
    Own {
        /// The most bytes of its body.
        most: usize,
    },
    /// Nothing beside its token, which no browser sends by itself. It is JSON of at most so many bytes.
    Token {
        /// The most bytes of its body.
        most: usize,
    },
    /// There is none, but it opens a WebSocket, which a page of this site must ask for: by the browser's word, as it cannot
    /// carry a token.
    Socket,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method. GET stands for HEAD too.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// Who may ask.
    pub who: Who,
    /// What its form must prove.
    pub forms: Forms,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = match self.forms {
            Forms::None => "reads",
            Forms::Asked => "asked answer",
            Forms::Own { .. } => "own form",
            Forms::Token { .. } => "with its token",
            Forms::Socket => "own WebSocket",
        };
        write!(f, "{} {} | {:?} | {forms}", self.method, self.path, self.who)
    }
}

/// The table of all routes, for tests and for whoever wants to know.
#[must_use]
pub fn routes() -> Vec<Route> {
    table().into_iter().map(|row| row.route).collect()
}

pub(crate) struct Row {
    pub(crate) route: Route,
    pub(crate) answer: MethodRouter<Arc<Website>>,
    /// What the document says of it, for the API.
    pub(crate) operation: Option<Operation>,
}

impl Row {
    /// The same with another bound of its body.
    pub(crate) fn with_most(mut self, most: usize) -> Self {
        if let Forms::Own { most: bound } | Forms::Token { most: bound } = &mut self.route.forms {
            *bound = most;
        }
        self
    }
}

const HEALTH: &str = "/healthz";
const METRICS: &str = "/metrics";

/// The most bytes of a form with a few lines in it.
pub(crate) const SHORT: usize = 8 * 1024;
/// The most bytes of a form with what a browser says of a passkey in it, which triples on the way.
const CREDENTIAL: usize = 64 * 1024;
/// The most bytes of a form with a paste of keys in it: 64 KiB, which may triple on the way.
pub(crate) const PASTE: usize = 200 * 1024;
/// The most bytes of a form with a key revocation list in it: base64, in which some signs may triple on the way.
pub(crate) const KRL: usize = 1024 * 1024;

fn row<T: 'static>(
    (method, filter): (Method, MethodFilter),
    path: &'static str,
    who: Who,
    forms: Forms,
    answer: impl Handler<T, Arc<Website>>,
) -> Row {
    Row { route: Route { method, path, who, forms }, answer: on(filter, answer), operation: None }
}

const GET: (Method, MethodFilter) = (Method::GET, MethodFilter::GET);
const POST: (Method, MethodFilter) = (Method::POST, MethodFilter::POST);

fn page<T: 'static>(path: &'static str, who: Who, answer: impl Handler<T, Arc<Website>>) -> Row {
    row(GET, path, who, Forms::None, answer)
}

fn form<T: 'static>(path: &'static str, who: Who, most: usize, answer: impl Handler<T, Arc<Website>>) -> Row {
    row(POST, path, who, Forms::Own { most }, answer)
}

fn answer<T: 'static>(path: &'static str, who: Who, answer: impl Handler<T, Arc<Website>>) -> Row {
    row(GET, path, who, Forms::Asked, answer)
}

fn socket<T: 'static>(path: &'static str, who: Who, answer: impl Handler<T, Arc<Website>>) -> Row {
    row(GET, path, who, Forms::Socket, answer)
}

/// All rows.
pub(crate) fn table() -> Vec<Row> {
    use Who::{Anybody, Member, Monitor, Operator};
    let mut rows = vec![
        page(HEALTH, Anybody, files::health),
        page(METRICS, Monitor, metrics::show),
        page("/", Anybody, environments::show),
        page("/log-in", Anybody, log_in::show),
        form("/log-in", Anybody, SHORT, log_in::by_password),
        page("/log-in/passkey/options", Anybody, log_in::passkey_options),
        form("/log-in/passkey", Anybody, CREDENTIAL, log_in::by_passkey),
        form("/log-in/oidc", Anybody, SHORT, oidc::begin_log_in),
        answer("/log-in/oidc", Anybody, oidc::finish),
        form("/log-out", Member, SHORT, log_in::out),
        page("/link/{token}", Anybody, link::show),
        form("/link/{token}", Anybody, SHORT, link::follow),
        form("/vms", Member, SHORT, environments::add),
        page("/vms/{vm}", Member, vm::show),
        form("/vms/{vm}/power", Member, SHORT, vm::power),
        form("/vms/{vm}/always-on", Member, SHORT, vm::always_on),
        form("/vms/{vm}/snooze", Member, SHORT, vm::snooze),
        form("/vms/{vm}/label", Member, SHORT, vm::set_label),
        page("/vms/{vm}/boot", Member, vm::show_boot),
        form("/vms/{vm}/boot", Member, SHORT, vm::boot),
        form("/vms/{vm}/people", Member, SHORT, people::share),
        form("/vms/{vm}/people/remove", Member, SHORT, people::take_back),
        form("/shared/accept", Member, SHORT, shared::accept),
        form("/shared/leave", Member, SHORT, shared::leave),
        form("/vms/{vm}/ports", Member, SHORT, ports::set),
        page("/vms/{vm}/resize", Member, disk::show_resize),
        form("/vms/{vm}/resize", Member, SHORT, disk::resize),
        page("/vms/{vm}/rebuild", Member, disk::show_rebuild),
        form("/vms/{vm}/rebuild", Member, SHORT, disk::rebuild),
        page("/vms/{vm}/erase", Member, disk::show_erase),
        form("/vms/{vm}/erase", Member, SHORT, disk::erase),
        page("/vms/{vm}/remove", Member, vm::show_remove),
        form("/vms/{vm}/remove", Member, SHORT, vm::remove),
        page("/vms/{vm}/terminal", Member, pages::terminal::show),
        socket("/vms/{vm}/terminal/open", Member, terminal::open),
        page("/watch/{link}", Member, pages::watch::show),
        socket("/watch/{link}/open", Member, terminal::watch::open),
        page("/account", Member, account::show),
        form("/account/password", Member, SHORT, account::set_password),
        page("/account/confirm", Member, confirm::show),
        form("/account/confirm", Member, SHORT, confirm::by_password),
        page("/account/confirm/passkey/options", Member, confirm::passkey_options),
        form("/account/confirm/passkey", Member, CREDENTIAL, confirm::by_passkey),
        page("/account/passkeys/options", Member, passkeys::options),
        form("/account/passkeys", Member, CREDENTIAL, passkeys::add),
        page("/account/passkeys/{passkey}", Member, passkeys::show),
        form("/account/passkeys/{passkey}/rename", Member, SHORT, passkeys::rename),
        form("/account/passkeys/{passkey}/remove", Member, SHORT, passkeys::remove),
        form("/account/oidc", Member, SHORT, oidc::begin_connect),
        form("/account/oidc/{oidc}/remove", Member, SHORT, oidc::remove),
        page("/account/keys", Member, keys::show),
        form("/account/keys", Member, PASTE, keys::add),
        page("/account/keys/{key}/rename", Member, keys::show_rename),
        form("/account/keys/{key}/rename", Member, SHORT, keys::rename),
        page("/account/keys/{key}/remove", Member, keys::show_remove),
        form("/account/keys/{key}/remove", Member, SHORT, keys::remove),
        page("/account/sessions", Member, sessions::show),
        form("/account/sessions/{session}/end", Member, SHORT, sessions::end),
        form("/account/sessions/end-others", Member, SHORT, sessions::end_others),
        page("/account/tokens", Member, tokens::show),
        form("/account/tokens", Member, SHORT, tokens::make),
        form("/account/tokens/{token}/remove", Member, SHORT, tokens::remove),
        page("/account/activity", Member, activity::show),
        page("/team", Member, team::show),
        page("/help", Member, help::show),
        page("/enter", Member, enter::show),
        page("/live", Member, live::open),
        page("/live/environments", Member, live::environments),
        page("/live/vms/{vm}", Member, live::vm),
        page("/live/keys", Member, live::keys),
        page("/api", Anybody, api::reference::show),
        page("/api/openapi.json", Anybody, api::document::show),
        page("/ops", Operator, ops::accounts::show),
        form("/ops/invitations", Operator, SHORT, ops::accounts::invite),
        form("/ops/invitations/{invitation}/remove", Operator, SHORT, ops::accounts::remove_invitation),
        page("/ops/accounts/{account}", Operator, ops::account::show),
        form("/ops/accounts/{account}/link", Operator, SHORT, ops::account::make_link),
        form("/ops/accounts/{account}/block", Operator, SHORT, ops::account::block),
        form("/ops/accounts/{account}/role", Operator, SHORT, ops::account::set_role),
        form("/ops/accounts/{account}/limits", Operator, SHORT, ops::limits::set),
        page("/ops/connections", Operator, ops::connections::show),
        page("/ops/recordings", Operator, ops::recordings::show),
        page("/ops/recordings/{recording}", Operator, ops::recordings::download),
        form("/ops/recordings/{recording}/remove", Operator, SHORT, ops::recordings::remove),
        page("/ops/health", Operator, ops::health::show),
        page("/ops/vms", Operator, ops::vms::show),
        page("/ops/team", Operator, ops::team::show),
        form("/ops/team/vms", Operator, SHORT, ops::team::add_vm),
        form("/ops/team/cas", Operator, PASTE, ops::team::add_ca),
        form("/ops/team/cas/remove", Operator, SHORT, ops::team::remove_ca),
        form("/ops/team/krl", Operator, KRL, ops::team::load_krl),
        page("/ops/audit", Operator, ops::audit::show),
    ];
    rows.extend(api::table::rows());
    rows.extend(files::assets().map(|(path, answer)| Row {
        route: Route { method: Method::GET, path, who: Anybody, forms: Forms::None },
        answer,
        operation: None,
    }));
    rows
}

/// The router of the table. What is in no row is a page that says so.
pub(crate) fn built(website: &Arc<Website>) -> Router {
    let gate = |who, forms, asked| {
        let gate = Arc::new(Gate { website: Arc::clone(website), who, forms, asked });
        from_fn_with_state(gate, guard::pass)
    };
    let mut router = Router::new();
    for Row { route, answer, .. } in table() {
        let asked = Asked { method: word(&route.method), route: route.path };
        router = router.route(route.path, answer.route_layer(gate(route.who, route.forms, asked)));
    }
    router
        .fallback(missing.layer(gate(Who::Anybody, Forms::None, Asked::NOWHERE)))
        .method_not_allowed_fallback(wrong_method.layer(gate(Who::Anybody, Forms::None, Asked::NOWHERE)))
        .with_state(Arc::clone(website))
}

/// The name of a method of the table.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "any",
    }
}

async fn missing(asked: Uri) -> Response {
    if is_api(&asked) { Refusal::missing().into_response() } else { Problem::missing().into_response() }
}

async fn wrong_method(asked: Uri) -> Response {
    if is_api(&asked) {
        Refusal::wrong_method().into_response()
    } else {
        Problem::wrong_method().into_response()
    }
}

/// Whether something that watches this server asks here.
pub(crate) fn is_for_monitors(path: &str) -> bool {
    path == METRICS || path == HEALTH
}

/// Whether programs ask here, which are told in JSON.
pub(crate) fn is_api(asked: &Uri) -> bool {
    asked.path().starts_with("/api/")
}
