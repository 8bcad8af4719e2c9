#!/usr/bin/env bash
# Checks what the dependencies are: no banned or doubled ones, licences that fit, sources that are known. The tool is
# built when it is missing, which takes some minutes; so this is not a part of make test.
. "$(dirname "$0")/lib.sh"
scripts/install-deps.sh build
scripts/install-rust.sh
if ! as_builder cargo deny --version >/dev/null 2>&1; then
    step "Building cargo-deny (once, some minutes)" "$logs/cargo-deny.log" as_builder cargo install cargo-deny --locked
fi
say "Checking bans, licences and sources …"
as_builder cargo deny --workspace --locked check bans licenses sources
