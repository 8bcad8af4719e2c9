#!/usr/bin/env bash
# Runs the tests of the engine for Incus, with a real cluster of three members in namespaces of this machine.
. "$(dirname "$0")/lib.sh"

scripts/install-deps.sh run build cluster
scripts/install-rust.sh

built=${CARGO_TARGET_DIR:-target}/debug
export BERTH_IMAGE_DIR=${BERTH_IMAGE_DIR:-$builder_home/.cache/berth/images}

step "Building berth and the tests" "$logs/build.log" as_builder cargo test --package berth --package berth-engine-qemu --package berth-engine-incus --locked --no-run
step "The image" "$logs/image.log" as_builder "$built/berth-image" "$BERTH_IMAGE_DIR" container
as_builder env BERTH_IMAGE_DIR="$BERTH_IMAGE_DIR" BERTH_CLUSTER_TESTS=1 cargo test --package berth-engine-incus --locked --test cluster
