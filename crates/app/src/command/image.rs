//! `berth image …`, and the engine that makes VMs from images.

use std::time::SystemTime;

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
    let dir = context.config()?.image_dir;
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

/// The engine of a server. Its shims run the very program that this server runs, also after an upgrade has put another
/// one in its place.
pub(super) fn engine(config: &Config) -> anyhow::Result<QemuEngine> {
    let shim = vec!["/proc/self/exe".into(), "vm-shim".into()];
    let egress = if config.vm.internet { Egress::Auto } else { Egress::None };
    let memory_dir = config.host.memory_dir.clone();
    let config = QemuConfig::new(config.state_dir.clone(), config.image_dir.clone(), shim);
    Ok(QemuEngine::new(QemuConfig { egress, memory_dir, ..config })?)
}
