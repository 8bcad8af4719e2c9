#!/usr/bin/env bash
# Stops the VMs that are awake, each as a shutdown in it would, and then the server. VMs that are asleep stay asleep; what
# is on disks stays.
. "$(dirname "$0")/lib.sh"
. scripts/server.sh

stop_vms() {
    local vm vms
    # Those that are asleep stay so; those that are being removed or have failed have nothing to stop.
    vms=$("$berth" admin vm list 2>/dev/null | awk -F '\t' '$2 ~ /^(running|starting|waking|stopping)$/ { print $1 }') ||
        fail "The server does not answer. Its log: $server_log"
    for vm in $vms; do say "Stopping $vm …"; done
    # So many at once are no load that the server would refuse.
    printf '%s\n' "$vms" | xargs -r -P 16 -n 1 "$berth" admin vm stop >/dev/null ||
        fail "Not every VM could be stopped; the server runs on. Its log: $server_log"
}

[ -x "$berth" ] || fail "Nothing is built here, so nothing runs from here."
if ! pid=$(server_pid); then
    if [ -z "$(find "$state/run" -name '*.sock' -print -quit 2>/dev/null)" ]; then
        say "Nothing runs with the state folder $state"
        exit 0
    fi
    # VMs outlive a server that was killed, and only a server can stop them cleanly.
    say "No server runs, but VMs do"
    start_server
    pid=$(server_pid)
fi
stop_vms
say "Stopping the server …"
stop_server "$pid"
say "Berth is down"
