# shellcheck shell=bash disable=SC2154 # lib.sh defines the rest
# Starting and stopping the server in the background. Sourced, never run; after lib.sh.

berth=$PWD/target/release/berth

default_state() {
    if [ "$(id -u)" = 0 ]; then
        echo /var/lib/berth
    else
        echo "${XDG_DATA_HOME:-$HOME/.local/share}/berth"
    fi
}

state=${BERTH_STATE:-$(default_state)}
case $state in /*) ;; *) state=$PWD/$state ;; esac
export BERTH_STATE=$state
server_log=$state/server.log
# A log longer than this is set aside when the server starts.
max_log=$((10 * 1024 * 1024))
wrong_configuration="The server cannot start with this configuration. Another one is given with BERTH_CONFIG=FILE make up (docs/configuration.md)."

# The process that holds the state folder. The lock tells truly whether it lives; the file only, what number it has.
server_pid() {
    local pid
    [ -e "$state/lock" ] || return 1
    ! flock --nonblock --shared "$state/lock" true || return 1
    pid=$(cat "$state/lock")
    [ -n "$pid" ] && [ -d "/proc/$pid" ] || return 1
    echo "$pid"
}

# Whether the server that runs is the binary that was built last. The file of an older one is gone, but still open.
server_is_current() { # server_is_current PID
    [ "$(stat -Lc %d:%i "/proc/$1/exe" 2>/dev/null)" = "$(stat -Lc %d:%i "$berth")" ]
}

start_server() {
    local tenth
    mkdir -p "$state"
    chmod 711 "$state"
    if [ -e "$server_log" ] && [ "$(stat -c %s "$server_log")" -gt "$max_log" ]; then
        mv "$server_log" "$server_log.1"
    fi
    "$berth" check-config >"$logs/check-config.log" 2>&1 || {
        grep -E '^([a-z_]+\.)?[a-z_]+: ' "$logs/check-config.log" >&2 || cat "$logs/check-config.log" >&2
        fail "$wrong_configuration"
    }
    say "Starting the server; its log is $server_log"
    (umask 077 && touch "$server_log")
    setsid --fork "$berth" serve </dev/null >>"$server_log" 2>&1
    # It takes its lock within a moment, or has ended.
    for tenth in $(seq 300); do
        if "$berth" admin account list >/dev/null 2>&1; then return 0; fi
        sleep 0.1
        [ "$tenth" -lt 20 ] || server_pid >/dev/null || break
    done
    tail -n 15 "$server_log" >&2
    fail "The server did not start. Its log: $server_log"
}

stop_server() { # stop_server PID
    kill -TERM "$1" 2>/dev/null || true
    for _ in $(seq 200); do
        [ -d "/proc/$1" ] || return 0
        sleep 0.1
    done
    fail "The server (process $1) does not stop. Its log: $server_log"
}
