#!/usr/bin/env bash
# Sees to a Rust that is new enough for this workspace, for the user who builds. Uses the one that is there if it is;
# else the system's rustup package, else rustup's own installer. With "lint", rustfmt and clippy too.
# usage: scripts/install-rust.sh [lint]
. "$(dirname "$0")/lib.sh"

needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

have() { as_builder sh -c "command -v $1" >/dev/null 2>&1; }

new_enough() {
    local version
    version=$(as_builder rustc --version 2>/dev/null | cut -d' ' -f2) && [ -n "$version" ] && have cargo &&
        [ "$(printf '%s\n%s\n' "$needed" "${version%%-*}" | sort -V | head -n 1)" = "$needed" ]
}

linters() { as_builder cargo fmt --version && as_builder cargo clippy --version; }

install_rustup() {
    if apt-cache show rustup >/dev/null 2>&1; then
        root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends rustup
    else
        local installer
        installer=$(mktemp)
        curl --proto '=https' --tlsv1.2 --fail --silent --show-error --location --retry 3 -o "$installer" https://sh.rustup.rs
        chmod 644 "$installer"
        as_builder sh "$installer" -y --no-modify-path --profile minimal --default-toolchain none
        rm -f "$installer"
    fi
}

install_toolchain() {
    as_builder rustup toolchain install stable --profile minimal --component rustfmt --component clippy
    as_builder rustup default stable
}

if ! new_enough; then
    have rustup || step "Installing rustup" "$logs/rustup.log" install_rustup
    step "Installing Rust (this needs $needed or newer)" "$logs/rust.log" install_toolchain
    new_enough || fail "There is still no Rust $needed or newer for $builder. See $logs/rust.log, or install it by hand."
fi
if [ "${1:-}" = lint ] && ! linters >/dev/null 2>&1; then
    have rustup || fail "rustfmt and clippy are missing for the Rust that is installed. Install them (Debian: rustfmt, rust-clippy)."
    step "Installing rustfmt and clippy" "$logs/rust.log" as_builder rustup component add rustfmt clippy
fi
