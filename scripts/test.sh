#!/usr/bin/env bash
# Installs what is missing, checks the style and the docs, and runs every test. Ends with the count of all tests.
. "$(dirname "$0")/lib.sh"

scripts/install-deps.sh run build test fuzz
scripts/install-rust.sh lint

# The tests run this binary, and make their VMs from an image that it builds: one profile for all of it. They share VMs
# within a program, so they are run by cargo itself and not by a runner that gives each test a process.
berth=${CARGO_TARGET_DIR:-target}/debug/berth
export BERTH_IMAGE_DIR=${BERTH_IMAGE_DIR:-$builder_home/.cache/berth/images}

step "Checking the format" "$logs/fmt.log" as_builder cargo fmt --all --check
step "Checking the scripts" "$logs/shellcheck.log" shellcheck scripts/*.sh crates/engine-incus/tests/cluster/cluster.sh .ci/run
step "Getting the website’s tools" "$logs/npm.log" as_builder npm --prefix crates/web/npm ci --no-audit --no-fund --ignore-scripts --prefer-offline
step "Checking the website’s built files" "$logs/assets.log" as_builder npm --prefix crates/web/npm run check
step "Building berth and the tests" "$logs/build.log" as_builder cargo test --workspace --locked --no-run

say "Building the image, and looking for what the compiler and clippy dislike …"
start=$SECONDS
as_builder env BERTH_IMAGE_DIR="$BERTH_IMAGE_DIR" "$berth" image build >"$logs/image.log" 2>&1 &
image=$!
step "Clippy" "$logs/clippy.log" as_builder cargo clippy --workspace --all-targets --locked -- -D warnings
step "The documentation" "$logs/doc.log" as_builder env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
# The same inputs each time, so that what fails is what has changed.
step "Fuzzing" "$logs/fuzz.log" scripts/fuzz.sh 5 -seed=1
finish "$image" "$logs/image.log" "The image" "$start"

# Beside the tests: a browser mostly waits. The demo is one of cargo's examples, which it built with the tests.
demo=$(realpath "${CARGO_TARGET_DIR:-target}/debug/examples/demo")
start=$SECONDS
{
    as_builder npm --prefix crates/web/npm run look -- --demo "$demo" &&
        as_builder npm --prefix crates/web/npm run passkeys -- --demo "$demo"
} >"$logs/browser.log" 2>&1 &
browser=$!

say "Running the tests …"
failed=
as_builder env BERTH_IMAGE_DIR="$BERTH_IMAGE_DIR" cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$logs/test.log" || failed=yes
say "All of the output: $logs/test.log"
awk '/^test result: / { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$logs/test.log"
finish "$browser" "$logs/browser.log" "Every page in a browser" "$start"
[ -z "$failed" ]
