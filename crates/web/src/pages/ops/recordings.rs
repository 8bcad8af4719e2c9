//! `/ops/recordings`: what was recorded of sessions. Who opens one is written down.

use std::io::SeekFrom;

use askama::Template;
use axum::{
    body::Body,
    http::{
        StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use berth_control::{OpenedRecording, RecordingInfo, RecordingState, RecordingWay};
use bytes::Bytes;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::{
    asked::{Named, Query},
    frame::{Frame, Here},
    problem::Problem,
    visitor::Operator,
    words::{self, Moment, go, size},
};

/// So many are shown at once; the search finds the others.
const SHOWN: usize = 200;
/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "ops_recordings.html")]
struct Page {
    frame: Frame,
    on: bool,
    query: String,
    recordings: Vec<RecordingView>,
    count: usize,
}

struct RecordingView {
    path: String,
    who: String,
    vm: String,
    way: &'static str,
    began: Moment,
    size: String,
    bytes: u64,
    state: &'static str,
    under_way: bool,
}

impl From<RecordingInfo> for RecordingView {
    fn from(info: RecordingInfo) -> Self {
        Self {
            path: format!("/ops/recordings/{}", info.name),
            who: info.account.to_string(),
            vm: info.vm.to_string(),
            way: match info.way {
                RecordingWay::Direct => "by ssh",
                RecordingWay::Web => "on the website",
            },
            began: Moment::new(info.began),
            size: size(info.bytes),
            bytes: info.bytes,
            state: match info.state {
                RecordingState::UnderWay => "under way",
                RecordingState::Complete => "complete",
                RecordingState::Incomplete => "incomplete",
            },
            under_way: info.state == RecordingState::UnderWay,
        }
    }
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    let query = query.search().to_lowercase();
    let found = member.acting.recordings().await?;
    let mut all = found.all;
    all.retain(|info| info.name.contains(&query));
    let count = all.len();
    all.truncate(SHOWN);
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Ops("recordings")),
        on: found.on,
        query,
        recordings: all.into_iter().map(RecordingView::from).collect(),
        count,
    };
    words::show(StatusCode::OK, &page)
}

/// The file itself, up to its last whole line.
pub(crate) async fn download(Operator(member): Operator, Named(name): Named) -> Result<Response, Problem> {
    let OpenedRecording { info, file, whole, .. } = member.acting.open_recording(&name).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-asciicast".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", info.name)),
        (CONTENT_LENGTH, whole.to_string()),
    ];
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(0)).await.map_err(|_| Problem::broken())?;
    let chunks = stream::try_unfold(file.take(whole), |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await?;
        Ok::<_, std::io::Error>((!chunk.is_empty()).then(|| (Bytes::from(chunk), file)))
    });
    Ok((headers, Body::from_stream(chunks)).into_response())
}

pub(crate) async fn remove(Operator(member): Operator, Named(name): Named) -> Result<Response, Problem> {
    member.acting.remove_recording(&name).await?;
    Ok(go("/ops/recordings"))
}
