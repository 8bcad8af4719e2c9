#!/usr/bin/env bash
# Builds berth at target/release/berth, or the image with it, or both side by side.
# usage: scripts/build.sh berth|image|both
. "$(dirname "$0")/lib.sh"
. scripts/server.sh

export CARGO_TARGET_DIR=$PWD/target
image_dir=${BERTH_IMAGE_DIR:-$state/images}

cargo_build() { as_builder env CARGO_TARGET_DIR="$CARGO_TARGET_DIR" cargo build --release --locked "$@"; }

berth() { step "Building berth" "$logs/build.log" cargo_build -p berth; }

image() { step "Building the image" "$logs/image.log" "$berth" image build; }

# Building an image takes a small part of berth: that is built first, and the rest beside the image. The packages are
# chosen together, so that what both have in common is compiled once.
both() {
    local image start
    if [ -x "$berth" ] && [ -n "$(find "$image_dir" -maxdepth 2 -name manifest.json -print -quit 2>/dev/null)" ]; then
        berth
        image
        return
    fi
    step "Building what builds the image" "$logs/build.log" cargo_build -p berth -p berth-engine-qemu --bin berth-image
    make_folders
    start=$SECONDS
    target/release/berth-image "$image_dir" >"$logs/image.log" 2>&1 &
    image=$!
    berth
    say "Waiting for the image …"
    finish "$image" "$logs/image.log" "Building the image" "$start"
}

make_folders() {
    mkdir -p "$state" "$image_dir"
    chmod 711 "$state"
}

case ${1:-} in
berth)
    scripts/install-deps.sh build
    scripts/install-rust.sh
    berth
    ;;
image | both)
    scripts/install-deps.sh run build
    scripts/install-rust.sh
    if [ "$1" = both ]; then both; else berth && image; fi
    ;;
*) fail "usage: scripts/build.sh berth|image|both" ;;
esac
