//! How often something is done by many clients at once.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// What was counted.
pub(super) struct Rate {
    /// A second.
    pub(super) each_second: f64,
    /// In all.
    pub(super) times: u32,
}

/// Has each of these clients do it again and again for so long.
pub(super) async fn rate<C, F>(
    clients: impl IntoIterator<Item = C>,
    time: Duration,
    once: impl Fn(C) -> F + Clone + Send + 'static,
) -> anyhow::Result<Rate>
where
    C: Send + 'static,
    F: Future<Output = anyhow::Result<C>> + Send,
{
    let began = Instant::now();
    let mut working = JoinSet::new();
    for mut client in clients {
        let once = once.clone();
        working.spawn(async move {
            let mut times = 0;
            while began.elapsed() < time {
                client = once(client).await?;
                times += 1;
            }
            anyhow::Ok(times)
        });
    }
    let mut times: u32 = 0;
    while let Some(done) = working.join_next().await {
        times += done??;
    }
    Ok(Rate { each_second: f64::from(times) / began.elapsed().as_secs_f64(), times })
}

/// For the name of a metric.
pub(super) fn at_once(clients: u32) -> String {
    if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") }
}
