//! Requests to a cluster's API, and its operations.
//!
//! ```text
//!   ask ──► an address that answers ──► one request ──► sync: its metadata
//!     ▲        │ none: the next one                 └─► async: an operation, waited for by its id
//!     └────────┘ a few times, with back-off, and only where nothing was sent or asking twice does no harm
//! ```
//!
//! Every call has a deadline. One that passes says whether it is the cluster or only a member of it that is silent: who
//! asks of an instance whose machine is gone is told so, and nobody else waits with them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::{
    connect::{Address, Connect, TlsFiles},
    error::IncusError,
};

/// What only looks; a member that is down is noticed by this.
const LOOK_WITHIN: Duration = Duration::from_secs(4);
/// What begins something, or changes a setting.
const ACT_WITHIN: Duration = Duration::from_secs(20);
/// One round of waiting for an operation; the cluster answers within it.
const WAIT_ROUND: Duration = Duration::from_secs(10);
/// Whether the address itself lives.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// Before what was not done is asked for once more. Together as long as a cluster takes to agree after a member is gone.
const BACK_OFF: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
    Duration::from_millis(5000),
];
/// An answer is a list of names at most; in bytes.
const LONGEST_ANSWER: usize = 64 << 20;
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
/// Connections that nobody uses at the moment.
const SPARES: usize = 8;

type Sender = SendRequest<Full<Bytes>>;

/// A cluster, as its API shows it.
pub(crate) struct Client {
    addresses: Vec<Address>,
    /// The address that answered last.
    present: AtomicUsize,
    connect: Connect,
    project: String,
    spares: Mutex<Vec<(usize, Sender)>>,
    tasks: TaskTracker,
}

/// Every answer of Incus.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    metadata: Value,
}

/// What is under way in a cluster.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) status_code: u16,
    #[serde(default)]
    pub(crate) err: String,
    #[serde(default)]
    pub(crate) metadata: Value,
}

impl Operation {
    /// Whether it is over, and how. The codes are Incus': 200 well, 400 not, 401 cancelled, and all else goes on.
    pub(crate) fn outcome(&self) -> Option<Result<(), IncusError>> {
        match self.status_code {
            200 => Some(Ok(())),
            400 | 401 => Some(Err(IncusError::told(0, &self.err))),
            _ => None,
        }
    }
}

impl Client {
    pub(crate) fn new(
        addresses: Vec<Address>,
        tls: Option<&TlsFiles>,
        project: String,
    ) -> Result<Self, IncusError> {
        Ok(Self {
            addresses,
            present: AtomicUsize::new(0),
            connect: Connect::new(tls)?,
            project,
            spares: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// A path with the project, and what else is given of it.
    pub(crate) fn path(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut whole = format!("/1.0{path}?project={}", encoded(&self.project));
        for (key, value) in query {
            whole += &format!("&{key}={}", encoded(value));
        }
        whole
    }

    /// What is at a path.
    pub(crate) async fn look<T: DeserializeOwned>(&self, path: &str) -> Result<T, IncusError> {
        self.look_within(path, LOOK_WITHIN).await
    }

    pub(crate) async fn look_within<T: DeserializeOwned>(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<T, IncusError> {
        let answer = self.ask(Method::GET, path, None, within).await?;
        serde_json::from_value(answer.metadata).map_err(|error| IncusError::Odd(error.to_string()))
    }

    /// Has something done that is over with the answer.
    pub(crate) async fn set(&self, method: Method, path: &str, body: &Value) -> Result<(), IncusError> {
        self.ask(method, path, Some(body), ACT_WITHIN).await.map(drop)
    }

    /// Begins an operation.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Operation, IncusError> {
        let answer = self.ask(method, path, Some(body), ACT_WITHIN).await?;
        operation(answer)
    }

    /// Begins an operation and waits for its end.
    pub(crate) async fn act(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Result<(), IncusError> {
        let operation = self.begin(method, path, body).await?;
        self.end_of(operation, patience).await.map(drop)
    }

    /// Sends a file's bytes, which begins an operation.
    pub(crate) async fn send(
        &self,
        path: &str,
        bytes: Bytes,
        within: Duration,
    ) -> Result<Operation, IncusError> {
        let (status, text) = self.exchange(&Method::POST, path, Some((OCTETS, bytes)), within).await?;
        operation(read(status, &text)?)
    }

    /// Waits for the end of an operation. It goes on when this future is dropped, or has waited long enough.
    pub(crate) async fn end_of(
        &self,
        mut operation: Operation,
        patience: Duration,
    ) -> Result<Operation, IncusError> {
        let deadline = Instant::now() + patience;
        loop {
            match operation.outcome() {
                Some(Ok(())) => return Ok(operation),
                Some(Err(error)) => return Err(error),
                None if Instant::now() >= deadline => return Err(IncusError::TimedOut(patience)),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now()).min(WAIT_ROUND);
            let seconds = left.as_secs().max(1).to_string();
            // From the id: the path in the answer may have a query, and would read something else with a word after it.
            let path = self.path(&format!("/operations/{}/wait", operation.id), &[("timeout", &seconds)]);
            operation = self.look_within(&path, left + LOOK_WITHIN).await?;
        }
    }

    /// The end of a text that is no answer in JSON, without control characters but for line ends; in bytes at most.
    pub(crate) async fn text(&self, path: &str, most: usize) -> Result<String, IncusError> {
        let (status, text) = self.exchange(&Method::GET, path, None, LOOK_WITHIN).await?;
        if !status.is_success() {
            return read(status, &text).and(Err(IncusError::Odd(status.to_string())));
        }
        let shown: String =
            String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control() || *c == '\n').collect();
        let from = (shown.len().saturating_sub(most)..=shown.len()).find(|at| shown.is_char_boundary(*at));
        Ok(shown.get(from.unwrap_or(shown.len())..).unwrap_or_default().to_owned())
    }

    /// Asks at an address that answers.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Answer, IncusError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let mut back_off = BACK_OFF.iter();
        loop {
            let asked = self.ask_once(&method, path, body.clone(), within).await;
            match (asked, back_off.next()) {
                (Err(error), Some(pause)) if error.is_passing() => {
                    tracing::debug!(%error, path, "asked once more");
                    sleep(*pause).await;
                }
                (asked, _) => return asked,
            }
        }
    }

    async fn ask_once(
        &self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        within: Duration,
    ) -> Result<Answer, IncusError> {
        let (status, text) = self.exchange(method, path, body.map(|body| (JSON, body)), within).await?;
        read(status, &text)
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), IncusError> {
        let (at, mut sender) = self.sender().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "incus")
            .header(header::USER_AGENT, "berth");
        if let Some((kind, _)) = body {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request
            .body(Full::new(body.map(|(_, body)| body).unwrap_or_default()))
            .map_err(|error| IncusError::Odd(error.to_string()))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = answer.status();
            let whole = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
            let whole = whole.map_err(|error| IncusError::Broken(error.to_string()))?;
            Ok((status, whole.to_bytes()))
        };
        let Ok(exchanged) = timeout(within, exchange).await else {
            return Err(self.why_silent(at, within).await);
        };
        let exchanged = exchanged?;
        self.keep(at, sender);
        Ok(exchanged)
    }

    /// A call was not answered: the member that it was for may be gone, or the one that was asked.
    async fn why_silent(&self, at: usize, within: Duration) -> IncusError {
        let probe = async {
            let address = self.addresses.get(at)?;
            let mut sender = self.shake(address).await.ok()?;
            let request = Request::builder().uri("/1.0").header(header::HOST, "incus");
            sender.send_request(request.body(Full::default()).ok()?).await.ok()
        };
        if let Ok(Some(_)) = timeout(PROBE_WITHIN, probe).await {
            return IncusError::Away;
        }
        self.pass_over(at);
        IncusError::TimedOut(within)
    }

    /// A connection to the address that answered last, or to the next one that does.
    async fn sender(&self) -> Result<(usize, Sender), IncusError> {
        let present = self.present.load(Ordering::Relaxed);
        while let Some((at, sender)) = self.spare() {
            if at == present && !sender.is_closed() && sender.is_ready() {
                return Ok((at, sender));
            }
        }
        let mut last = None;
        for step in 0..self.addresses.len() {
            let at = (present + step) % self.addresses.len().max(1);
            let Some(address) = self.addresses.get(at) else { break };
            match self.shake(address).await {
                Ok(sender) => {
                    self.present.store(at, Ordering::Relaxed);
                    return Ok((at, sender));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| IncusError::Unreachable {
            address: "no address".into(),
            reason: "none is configured".into(),
        }))
    }

    async fn shake(&self, address: &Address) -> Result<Sender, IncusError> {
        let stream = self.connect.open(address).await?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| IncusError::Unreachable {
            address: address.to_string(),
            reason: error.to_string(),
        })?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the cluster ended");
            }
        });
        Ok(sender)
    }

    /// A connection of its own for a websocket, to the address that answered last.
    pub(crate) async fn stream(&self) -> Result<std::pin::Pin<Box<dyn berth_engine::Stream>>, IncusError> {
        let present = self.present.load(Ordering::Relaxed);
        let mut last = IncusError::Missing;
        for step in 0..self.addresses.len() {
            let at = (present + step) % self.addresses.len().max(1);
            let Some(address) = self.addresses.get(at) else { break };
            match self.connect.open(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn pass_over(&self, at: usize) {
        let next = (at + 1) % self.addresses.len().max(1);
        let _moved = self.present.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn spare(&self) -> Option<(usize, Sender)> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, at: usize, sender: Sender) {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARES {
            spares.push((at, sender));
        }
    }
}

fn broken(error: &hyper::Error) -> IncusError {
    // Before the request was begun: a spare connection that the other end had closed.
    if error.is_canceled() || error.is_closed() {
        return IncusError::Unreachable { address: "the last address".into(), reason: error.to_string() };
    }
    IncusError::Broken(error.to_string())
}

fn read(status: StatusCode, text: &[u8]) -> Result<Answer, IncusError> {
    let answer: Answer =
        serde_json::from_slice(text).map_err(|error| IncusError::Odd(format!("{status}: {error}")))?;
    if answer.kind == "error" || !answer.error.is_empty() {
        return Err(IncusError::told(answer.error_code, &answer.error));
    }
    Ok(answer)
}

fn operation(answer: Answer) -> Result<Operation, IncusError> {
    if answer.kind != "async" {
        return Err(IncusError::Odd(format!("no operation was begun, but {}", answer.kind)));
    }
    serde_json::from_value(answer.metadata).map_err(|error| IncusError::Odd(error.to_string()))
}

/// What may stand in a query as it is, and the rest by its bytes.
pub(crate) fn encoded(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            whole.push(char::from(byte));
        } else {
            whole += &format!("%{byte:02X}");
        }
    }
    whole
}
