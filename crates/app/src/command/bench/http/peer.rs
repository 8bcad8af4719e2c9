//! The two that are measured: nginx as a reverse proxy, and Berth.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin};

use super::{
    super::{
        client::program,
        processes::Tree,
        servers::{StandIn, free_address, until_it_listens},
        stand_in,
    },
    load::Door,
};

const NGINX: &str = "/usr/sbin/nginx";

/// One of the two, which runs until this is dropped.
pub(super) struct Peer {
    pub(super) door: Door,
    server: Child,
    _input: Option<ChildStdin>,
}

/// nginx's workers end when their master does it in order, and outlive one that is killed.
impl Drop for Peer {
    fn drop(&mut self) {
        let pid = self.server.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _gone_already = kill_process(pid, Signal::TERM);
        }
    }
}

impl Peer {
    /// Its processes.
    pub(super) fn tree(&self) -> anyhow::Result<Tree> {
        let pid = self.server.id().context("What is measured has ended")?;
        Ok(Tree::below(pid))
    }

    /// Starts nginx before the port of the target.
    pub(super) async fn nginx(dir: &Path, target: u16) -> anyhow::Result<Self> {
        ensure!(
            Path::new(NGINX).exists(),
            "There is no {NGINX} to compare with; it is in the package nginx-light"
        );
        let address = free_address()?;
        let (config, dir) = (dir.join("nginx.conf"), dir.display());
        let lines = format!(
            "daemon off;
             user root;
             worker_processes auto;
             worker_rlimit_nofile 65536;
             pid {dir}/nginx.pid;
             error_log stderr error;
             events {{ worker_connections 16384; }}
             http {{
                 access_log off;
                 client_max_body_size 0;
                 keepalive_requests 1000000000;
                 client_body_temp_path {dir}/nginx-body;
                 proxy_temp_path {dir}/nginx-proxy;
                 fastcgi_temp_path {dir}/nginx-fastcgi;
                 uwsgi_temp_path {dir}/nginx-uwsgi;
                 scgi_temp_path {dir}/nginx-scgi;
                 map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
                 server {{
                     listen {address};
                     location / {{
                         proxy_pass http://127.0.0.1:{target};
                         proxy_http_version 1.1;
                         proxy_request_buffering off;
                         proxy_max_temp_file_size 0;
                         proxy_set_header Host $host;
                         proxy_set_header Upgrade $http_upgrade;
                         proxy_set_header Connection $connection_upgrade;
                         proxy_read_timeout 1h;
                     }}
                 }}
             }}"
        );
        fs::write(&config, lines)?;
        let mut command = program(NGINX);
        command.arg("-e").arg("stderr").arg("-c").arg(&config).stdout(Stdio::null()).kill_on_drop(false);
        let mut server = command.spawn().context("nginx cannot be started")?;
        until_it_listens("nginx", &mut server, address).await?;
        Ok(Self { door: Door { address, host: address.to_string() }, server, _input: None })
    }

    /// Starts Berth.
    pub(super) async fn berth(dir: &Path, target: u16) -> anyhow::Result<Self> {
        let StandIn { server, input, http, .. } = StandIn::start(dir, &[format!("--site={target}")]).await?;
        let rest = stand_in::HOST.strip_prefix("vm-0").unwrap_or_default();
        let host = format!("vm-0--{target}{rest}:{}", http.port());
        Ok(Self { door: Door { address: http, host }, server, _input: Some(input) })
    }
}
