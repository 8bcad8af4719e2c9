//! How the server asks others over HTTPS: the issuer that members log in with.

use std::time::Duration;

use async_trait::async_trait;
use berth_control::{Https, HttpsError};
use berth_model::Secret;
use reqwest::{
    Client, RequestBuilder,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};

/// So long may an answer take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MOST: usize = 256 * 1024;

/// Certificates are checked against those that this machine trusts, redirects are not followed, and no proxy's word in
/// the environment counts.
pub(crate) struct Asker(Client);

impl Asker {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder().https_only(true).redirect(Policy::none()).timeout(PATIENCE);
        Ok(Self(client.build()?))
    }
}

#[async_trait]
impl Https for Asker {
    async fn get(&self, address: &str) -> Result<Vec<u8>, HttpsError> {
        answer(self.0.get(address)).await
    }

    async fn post(
        &self,
        address: &str,
        authorization: Option<&Secret<String>>,
        form: &Secret<String>,
    ) -> Result<Vec<u8>, HttpsError> {
        let mut request = self.0.post(address).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| HttpsError::Unreachable("the client's secret cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        answer(request.body(form.expose().clone())).await
    }
}

async fn answer(request: RequestBuilder) -> Result<Vec<u8>, HttpsError> {
    let mut response = request.header(ACCEPT, "application/json").send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(HttpsError::Status(response.status().as_u16()));
    }
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MOST {
            return Err(HttpsError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost reason is the one that says something: the others repeat the address.
fn unreachable(error: reqwest::Error) -> HttpsError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    HttpsError::Unreachable(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_others_could_read_is_not_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        assert!(matches!(Asker::new().unwrap().get(&address).await, Err(HttpsError::Unreachable(_))));
        let nobody_came = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody_came.is_err());
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_told_without_the_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}/secret", listener.local_addr().unwrap());
        drop(listener);
        let Err(HttpsError::Unreachable(why)) = Asker::new().unwrap().get(&address).await else { panic!() };
        assert!(why.contains("refused") && !why.contains("secret"), "{why}");
    }
}
