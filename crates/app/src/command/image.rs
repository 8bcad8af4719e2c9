//! `berth image …`, and the engine that makes VMs from images.

use std::{sync::Arc, time::SystemTime};

use berth_engine::Engine;
use berth_engine_incus::IncusEngine;
use berth_engine_qemu::{
    Egress, QemuConfig, QemuEngine,
    image::{self, BuildOptions, Image, ImageError},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Context;
use crate::{
    admin::wire::{Failure, FailureKind},
    cli::BuildArgs,
    config::Config,
    output::{Table, moment},
};

pub(crate) fn build(context: &Context<'_>, args: &BuildArgs) -> Result<(), Failure> {
    let config = context.config()?;
    if config.engine.is_a_cluster() {
        return build_for_cluster(context, &config, args);
    }
    let dir = config.image_dir;
    let options = BuildOptions { anew: args.anew, ..BuildOptions::default() };
    let mut worked = false;
    let image = image::build(&dir, &options, &mut |line| {
        worked = true;
        context.output.note(line);
    });
    let image = image.map_err(failure)?;
    let what = if worked { "is built" } else { "is there already" };
    context.output.result(&told(&image), &format!("The image {} {what}, in {}.", image.id, dir.display()))
}

/// Builds the image for containers, and has the cluster make new VMs from it.
fn build_for_cluster(context: &Context<'_>, config: &Config, args: &BuildArgs) -> Result<(), Failure> {
    let options = BuildOptions { anew: args.anew, ..BuildOptions::default() };
    let progress = &mut |line: &str| context.output.note(line);
    let image = image::build_container(&config.image_dir, &options, progress).map_err(failure)?;
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("The image is built, and the cluster does not have it: {error}.");
        Failure::new(FailureKind::Unavailable, message)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let imported = runtime.block_on(async {
        let cluster = IncusEngine::new(config.engine.cluster())?;
        context.output.note("giving it to the cluster");
        cluster.import(&image.archive).await
    });
    imported.map_err(|error| failed(&error))?;
    let made = OffsetDateTime::from(image.made_at).format(&Rfc3339).ok();
    let told = json!({ "id": image.id, "made": made, "alias": config.engine.image });
    let sentence =
        format!("New VMs in the cluster are made from {}, there called {}.", image.id, config.engine.image);
    context.output.result(&told, &sentence)
}

pub(crate) fn list(context: &Context<'_>) -> Result<(), Failure> {
    let images = image::list(&context.config()?.image_dir).map_err(failure)?;
    let mut table = Table::new(["IMAGE", "MADE", "SIZE"]);
    for image in &images {
        table.row([image.id.clone(), moment(image.made_at.into()), format!("{} MB", image.size / 1_000_000)]);
    }
    let images: Vec<_> = images.iter().map(told).collect();
    context.output.table(&json!({ "images": images }), &table, "No images yet. Build one: berth image build")
}

fn told(image: &Image) -> Value {
    let made = |at: SystemTime| OffsetDateTime::from(at).format(&Rfc3339).ok();
    json!({ "id": image.id, "made": made(image.made_at), "size": image.size })
}

/// The engine's errors begin in lower case, for they also stand inside sentences.
fn failure(error: ImageError) -> Failure {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    Failure::new(
        FailureKind::Unavailable,
        format!("{}{}.", first.into_iter().collect::<String>(), chars.as_str().trim_end_matches('.')),
    )
}

/// The engine of a server. Has to be called where tokio runs.
pub(super) fn engine(config: &Config) -> anyhow::Result<Arc<dyn Engine>> {
    if config.engine.is_a_cluster() {
        return Ok(Arc::new(IncusEngine::new(config.engine.cluster())?));
    }
    Ok(Arc::new(on_this_machine(config)?))
}

/// Its shims run the very program that this server runs, also after an upgrade has put another one in its place.
fn on_this_machine(config: &Config) -> anyhow::Result<QemuEngine> {
    let shim = vec!["/proc/self/exe".into(), "vm-shim".into()];
    let egress = if config.vm.internet { Egress::Auto } else { Egress::None };
    let memory_dir = config.host.memory_dir.clone();
    let config = QemuConfig::new(config.state_dir.clone(), config.image_dir.clone(), shim);
    Ok(QemuEngine::new(QemuConfig { egress, memory_dir, ..config })?)
}
