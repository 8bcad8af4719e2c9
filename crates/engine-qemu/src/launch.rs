//! Starting a shim, as a process that does not belong to this one.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    process::Stdio,
    time::Duration,
};

use berth_engine::EngineError;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    lines,
    shim::spec::{Hello, ShimSpec, to_text},
};

/// A shim says hello once it has the VM's lock, for which it waits a little.
const HELLO_WITHIN: Duration = Duration::from_secs(30);
/// A log with more bytes than this is begun anew by the next shim.
const MAX_LOG: u64 = 1 << 20;
const MAX_HELLO: usize = 64 << 10;
/// mallopt(3), M_MMAP_THRESHOLD; for the shim only, not its children.
pub(crate) const KEEP_MAPPING: &str = "MALLOC_MMAP_THRESHOLD_";

/// Starts a shim and hears its hello. The child is to be waited for, so that nothing is left of it when it ends; it
/// does not end when it is dropped.
pub(crate) async fn launch(program: &[OsString], spec: &ShimSpec) -> Result<(Hello, Child), EngineError> {
    let text = to_text(spec)?;
    let mut child = spawn(program, spec).map_err(|error| EngineError::Broken {
        reason: format!("the VM's shim cannot be started: {error}"),
    })?;
    match timeout(HELLO_WITHIN, greet(&mut child, &text)).await {
        Ok(Ok(hello)) => Ok((hello, child)),
        Ok(Err(error)) => Err(EngineError::Broken {
            reason: format!("the VM's shim does not start: {error}. See {}", spec.paths.shim_log().display()),
        }),
        Err(_) => Err(EngineError::Broken {
            reason: format!("the VM's shim does not start in time. See {}", spec.paths.shim_log().display()),
        }),
    }
}

fn spawn(program: &[OsString], spec: &ShimSpec) -> io::Result<Child> {
    let Some((program, arguments)) = program.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no shim program is set"));
    };
    #[expect(clippy::disallowed_methods, reason = "this crate runs shims")]
    let mut command = Command::new(program);
    command.args(arguments).arg(spec.vm.to_string());
    // Nothing of this process goes along: no secret in the environment, no folder kept busy.
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH")).current_dir("/");
    // glibc would keep the network's buffers of 1 MiB, touched whole, once it has seen some freed: half a gigabyte after
    // 300 connections. A threshold that is set stays, and each is a mapping of its own that goes when it is freed.
    command.env(KEEP_MAPPING, "131072");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log(spec)?);
    command.spawn()
}

/// What an earlier shim has said stays, since it may tell why that one is no more.
fn log(spec: &ShimSpec) -> io::Result<File> {
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(spec.paths.shim_log())?;
    if log.metadata()?.len() > MAX_LOG {
        log.set_len(0)?;
    }
    Ok(log)
}

async fn greet(child: &mut Child, text: &[u8]) -> io::Result<Hello> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    stdin.write_all(text).await?;
    drop(stdin);
    let line = lines::read_line(&mut BufReader::new(stdout), MAX_HELLO).await?;
    let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it ended at once"))?;
    Ok(serde_json::from_slice(&line)?)
}
