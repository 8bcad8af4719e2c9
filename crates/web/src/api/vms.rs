//! VMs: one's own, or by their full name anybody's, for operators.

use std::time::Duration;

use axum::http::StatusCode;
use berth_control::Error;
use berth_model::TitleError;
use serde::Deserialize;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;
use utoipa::IntoParams;

use super::{
    Refusal,
    call::{Call, Nothing},
    reply::{Begun, Done, Made, Shown},
    shapes::{
        AlwaysOn, BootLog, Connection, NewVm, Page, Paging, Port, Rebuild, Resize, SetAccess, SetTitle,
        Snooze, Start, Vm, Wait, Why, page,
    },
};

/// The longest that an answer is kept back.
const LONGEST_WAIT: u16 = 300;

/// So many connections are told at once.
const MOST_CONNECTIONS: usize = 1000;

/// Which VM.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Which {
    /// `vm-0` for one of your own; `vm-0.alice.koding` or any of its host names for any.
    pub(super) vm: String,
}

pub(crate) async fn list(call: Call<Nothing, Paging>) -> Result<Shown<Page<Vm>>, Refusal> {
    let vms = call.caller.acting.vms(Some(call.caller.account())).await?;
    Ok(Shown(page(vms, &call.query, |vm| vm.name.clone())?))
}

/// Everybody's.
pub(crate) async fn list_all(call: Call<Nothing, Paging>) -> Result<Shown<Page<Vm>>, Refusal> {
    let vms = call.caller.acting.vms(None).await?;
    Ok(Shown(page(vms, &call.query, |vm| vm.name.clone())?))
}

pub(crate) async fn add(call: Call<Nothing, Nothing, NewVm>) -> Result<Made<Vm>, Refusal> {
    let made = call.caller.acting.add_vm(call.caller.account()).await?;
    Ok(Made(made.into()))
}

pub(crate) async fn show(call: Call<Which>) -> Result<Shown<Vm>, Refusal> {
    let name = call.vm(&call.path.vm)?;
    Ok(Shown(call.vm_info(&name).await?.into()))
}

pub(crate) async fn remove(call: Call<Which>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    call.caller.acting.remove_vm(&name).await?;
    Ok(Done)
}

pub(crate) async fn start(call: Call<Which, Nothing, Start>) -> Result<Begun, Refusal> {
    let (name, acting) = (call.vm(&call.path.vm)?, call.caller.acting.clone());
    let Start { from_disk, wait } = call.body;
    let work = async move {
        let nobody_listens = mpsc::channel(1).0;
        if from_disk {
            acting.boot_vm(&name, nobody_listens).await
        } else {
            acting.start_vm(&name, nobody_listens).await
        }
    };
    waited_for(&call.caller, wait, work).await
}

pub(crate) async fn stop(call: Call<Which, Nothing, Wait>) -> Result<Begun, Refusal> {
    let (name, acting) = (call.vm(&call.path.vm)?, call.caller.acting.clone());
    waited_for(&call.caller, call.body.wait, async move { acting.stop_vm(&name).await }).await
}

pub(crate) async fn sleep(call: Call<Which, Nothing, Wait>) -> Result<Begun, Refusal> {
    let (name, acting) = (call.vm(&call.path.vm)?, call.caller.acting.clone());
    waited_for(&call.caller, call.body.wait, async move { acting.sleep_vm(&name).await }).await
}

pub(crate) async fn rebuild(call: Call<Which, Nothing, Rebuild>) -> Result<Begun, Refusal> {
    let (name, acting) = (call.vm(&call.path.vm)?, call.caller.acting.clone());
    let Rebuild { home, wait } = call.body;
    waited_for(&call.caller, wait, async move { acting.rebuild_vm(&name, home.into()).await }).await
}

pub(crate) async fn resize(call: Call<Which, Nothing, Resize>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    call.caller.acting.resize_vm(&name, call.body.bytes).await?;
    Ok(Done)
}

/// Carried on whoever waits, and waited for as long as the token lasts.
async fn waited_for(
    caller: &super::gate::Caller,
    wait: u16,
    work: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<Begun, Refusal> {
    if wait > LONGEST_WAIT {
        return Err(Refusal::invalid(format!("wait: choose 0 to {LONGEST_WAIT} seconds.")));
    }
    // Tracked by nobody, since it ends by itself: control carries on what was begun.
    let work = TaskTracker::new().spawn(work);
    // A refusal comes at once, and is told also to who does not wait.
    let wait = Duration::from_secs(wait.into()).max(Duration::from_millis(100));
    tokio::select! {
        waited = timeout(wait, work) => match waited {
            Ok(Ok(done)) => done.map(|()| Begun::Done).map_err(Refusal::from),
            Ok(Err(_)) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong in Berth.")),
            Err(_) => Ok(Begun::UnderWay),
        },
        () = caller.login.ended() => Err(Refusal::bad_token()),
    }
}

pub(crate) async fn always_on(call: Call<Which, Nothing, AlwaysOn>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    call.caller.acting.set_always_on(&name, call.body.always_on).await?;
    Ok(Done)
}

pub(crate) async fn snooze(call: Call<Which, Nothing, Snooze>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    call.caller.acting.snooze_vm(&name, Duration::from_secs(call.body.seconds.into())).await?;
    Ok(Done)
}

pub(crate) async fn set_title(call: Call<Which, Nothing, SetTitle>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    let title = call.body.title.as_deref().map(str::parse).transpose();
    let title = title.map_err(|error: TitleError| Refusal::invalid(format!("title: {error}")))?;
    call.caller.acting.set_title(&name, title.as_ref()).await?;
    Ok(Done)
}

/// Everybody's, as many as there are room for in an answer.
pub(crate) async fn connections(call: Call) -> Result<Shown<Page<Connection>>, Refusal> {
    let (open, _) = call.caller.acting.connections("", MOST_CONNECTIONS)?;
    Ok(Shown(Page::whole(open.into_iter().map(Connection::from).collect())))
}

/// Which port of which VM.
#[derive(Deserialize, IntoParams)]
pub(crate) struct WhichPort {
    /// `vm-0` for one of your own; `vm-0.alice.koding` or any of its host names for any.
    vm: String,
    /// 80, or 1024 to 65535.
    port: u16,
}

pub(crate) async fn ports(call: Call<Which>) -> Result<Shown<Page<Port>>, Refusal> {
    let name = call.vm(&call.path.vm)?;
    let ports = call.caller.acting.ports(&name).await?;
    Ok(Shown(Page::whole(ports.into_iter().map(Port::from).collect())))
}

pub(crate) async fn set_port(call: Call<WhichPort, Nothing, SetAccess>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    call.caller.acting.set_port(&name, call.path.port, call.body.access.map(Into::into)).await?;
    Ok(Done)
}

pub(crate) async fn why(call: Call<Which>) -> Result<Shown<Why>, Refusal> {
    let name = call.vm(&call.path.vm)?;
    Ok(Shown(Why { why: call.caller.acting.why(&name).await? }))
}

pub(crate) async fn boot_log(call: Call<Which>) -> Result<Shown<BootLog>, Refusal> {
    let name = call.vm(&call.path.vm)?;
    Ok(Shown(BootLog { text: call.caller.acting.boot_log(&name).await? }))
}
