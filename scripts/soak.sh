#!/usr/bin/env bash
# Runs the soak of the tests for an hour, or for BERTH_SOAK_SECONDS. BERTH_SOAK_SEED repeats the order of another run; each
# run prints its own.
. "$(dirname "$0")/lib.sh"

scripts/install-deps.sh run build test
scripts/install-rust.sh lint

berth=${CARGO_TARGET_DIR:-target}/debug/berth
export BERTH_IMAGE_DIR=${BERTH_IMAGE_DIR:-$builder_home/.cache/berth/images}
export BERTH_SOAK_SECONDS=${BERTH_SOAK_SECONDS:-3600} BERTH_SOAK_SEED=${BERTH_SOAK_SEED:-$RANDOM$RANDOM}

step "Building berth and the tests" "$logs/build.log" as_builder cargo test --package berth --locked --no-run
step "The image" "$logs/image.log" as_builder env BERTH_IMAGE_DIR="$BERTH_IMAGE_DIR" "$berth" image build
as_builder env BERTH_IMAGE_DIR="$BERTH_IMAGE_DIR" cargo test --package berth --locked --test e2e -- soak
