#!/usr/bin/env bash
# Runs fuzz targets for so many seconds each, as many at a time as there are cores, and prints what each has done. What one
# finds is kept in fuzz/artifacts, and then this fails. Inputs that lead to new places are kept below the target folder.
# usage: scripts/fuzz.sh SECONDS [-seed=N] [TARGET…]
. "$(dirname "$0")/lib.sh"

# One target, in a process of its own.
if [ "${1:-}" = one ]; then
    name=$2
    shift 2
    mkdir -p "$found/$name"
    # A busy host is no input that takes too long.
    if ! BERTH_FUZZ=$name "$program" -timeout=60 -report_slow_units=60 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$name-" "$@" "$found/$name" "fuzz/corpus/$name" >"$logs/fuzz-$name.log" 2>&1; then
        printf '%-18s FAILED: see %s\n' "$name" "$logs/fuzz-$name.log"
        exit 1
    fi
    awk -v name="$name" '
        /^stat::number_of_executed_units:/ { runs = $2 }
        /^stat::average_exec_per_sec:/ { rate = $2 }
        { for (i = 1; i < NF; i++) if ($i == "cov:") places = $(i + 1) }
        END { printf "%-18s %10d runs %7d/s %6d places\n", name, runs, rate, places }' "$logs/fuzz-$name.log"
    exit
fi

seconds=${1:-600}
shift || true
arguments=(-max_total_time="$seconds")
case ${1:-} in -seed=*) arguments+=("$1") && shift ;; esac
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(ls fuzz/corpus)

scripts/install-deps.sh build fuzz
scripts/install-rust.sh

# With the features that the tests are built with, so that the dependencies are those that are there.
step "Building the fuzz targets" "$logs/fuzz-build.log" as_builder \
    env RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/fuzz-rustc.sh" \
    cargo build --workspace --features berth-fuzz/libfuzzer --locked --bin berth-fuzz

program=$(realpath "${CARGO_TARGET_DIR:-target}")/debug/berth-fuzz
found=$(dirname "$program")/fuzz-corpus
as_builder mkdir -p fuzz/artifacts "$found"
say "Fuzzing ${#targets[@]} targets, $seconds s each …"
export program found
printf '%s\0' "${targets[@]}" |
    as_builder xargs -0 -P "$(nproc)" -I TARGET "$0" one TARGET "${arguments[@]}" ||
    fail "A target has found something, and left its input in fuzz/artifacts. Again: BERTH_FUZZ=TARGET $program INPUT"
