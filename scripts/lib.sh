# shellcheck shell=bash
# What the scripts share. Sourced, never run.

set -eu -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
# Scripts that are run by others count from the first one's beginning.
export BERTH_BEGAN=${BERTH_BEGAN:-$(date +%s)}

if [ -t 2 ]; then terminal=yes; else terminal=; fi

# Every line of progress begins with the time since the script began.
elapsed() { echo $(($(date +%s) - BERTH_BEGAN)); }
say() { printf '[%3d s] %s\n' "$(elapsed)" "$*" >&2; }

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

# Shows while a background job runs what it does: the last line of its log where that can be overwritten, else a sign of
# life each half minute.
watch() { # watch PID LOG WHAT
    local pid=$1 log=$2 what=$3 start=$SECONDS shown=$SECONDS width line
    width=$(tput cols 2>/dev/null || echo 80)
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        if [ -n "$terminal" ]; then
            line=$(tail -c 400 "$log" 2>/dev/null | tr '\r' '\n' | grep . | tail -n 1 | tr -cd '[:print:]' || true)
            line="[$(printf '%3d' "$(elapsed)") s] $what … $line"
            printf '\r\033[K%s' "${line:0:$((width - 1))}" >&2
        elif [ $((SECONDS - shown)) -ge 30 ]; then
            shown=$SECONDS
            say "$what … ($((SECONDS - start)) s so far)"
        fi
    done
    if [ -n "$terminal" ]; then printf '\r\033[K' >&2; fi
}

# Runs a command with its output in a log, and shows the end of the log when it fails.
step() { # step WHAT LOG COMMAND…
    local what=$1 log=$2 start=$SECONDS
    shift 2
    say "$what …"
    "$@" >"$log" 2>&1 &
    finish $! "$log" "$what" "$start"
}

# Waits for a command that runs in the background already.
finish() { # finish PID LOG WHAT START
    local pid=$1 log=$2 what=$3 start=$4
    watch "$pid" "$log" "$what"
    if wait "$pid"; then
        if [ $((SECONDS - start)) -ge 2 ]; then say "$what: done in $((SECONDS - start)) s"; fi
        return 0
    fi
    printf '\n' >&2
    tail -n 30 "$log" >&2
    fail "$what failed. All of its output: $log"
}

# Where logs of builds and installs go: a folder of this user's, so that root's and others' runs do not meet.
logs=${TMPDIR:-/tmp}/berth-logs.$(id -u)
[ -d "$logs" ] || mkdir -m 700 "$logs"
[ -O "$logs" ] || fail "$logs belongs to somebody else. Set TMPDIR to a folder of your own."

root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        fail "This needs root, and there is no sudo. Run as root: $*"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@" || fail "This needs root, and sudo may not ask here. Run in a terminal, or as root: $*"
    fi
}

# Who builds: the owner of this folder, so that sudo leaves no file of root's in it.
builder=$(stat -c %U .)
if [ "$(id -u)" != 0 ] || [ "$builder" = UNKNOWN ]; then builder=$(id -un); fi
builder_home=$(getent passwd "$builder" | cut -d: -f6)
if [ "$builder" = "$(id -un)" ]; then builder_home=${HOME:-$builder_home}; fi

as_builder() {
    if [ "$builder" = "$(id -un)" ]; then
        PATH=$builder_home/.cargo/bin:$PATH "$@"
    else
        runuser -u "$builder" -- env HOME="$builder_home" USER="$builder" LOGNAME="$builder" \
            PATH="$builder_home/.cargo/bin:$PATH" "$@"
    fi
}
