//! What every answer's header says, refusals and missing pages included.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use crate::listen::ByTls;

/// Nothing may run, load or frame these pages but this site's own files, nothing is inline, and forms are sent here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// `same-origin` as the referrer's policy, and not `no-referrer`, under which browsers hide the origin of our own forms.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Browsers ask by https only from now on, for a year. It is said only by https, and by this server's own: what a proxy
/// in front promises is for it to say. Names below this one are not ours to promise for.
const STRICT: HeaderValue = HeaderValue::from_static("max-age=31536000");

pub(crate) async fn add(request: Request, next: Next) -> Response {
    let by_tls = request.extensions().get::<ByTls>().is_some();
    let mut response = with(next.run(request).await);
    if by_tls {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, STRICT);
    }
    response
}

/// An answer of this site, with what each of them says.
pub(crate) fn with(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    // Pages are somebody's, and hold the tokens of their forms. Only files say that they may be kept.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
