#!/usr/bin/env bash
# rustc for fuzzing, as cargo's RUSTC_WORKSPACE_WRAPPER: crates of this workspace are told to count where they have been and
# what they compared, for libFuzzer. Nothing here is of a nightly Rust. Dependencies are those of the ordinary build.
set -eu
for argument; do
    case $argument in
    # They run while others are built, and nothing would count there.
    build_script_build | proc-macro) exec "$@" ;;
    esac
done
exec "$@" -C opt-level=1 -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
