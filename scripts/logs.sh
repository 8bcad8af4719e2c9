#!/usr/bin/env bash
# Follows the server's log.
. "$(dirname "$0")/lib.sh"
. scripts/server.sh
[ -e "$server_log" ] || fail "There is no log yet at $server_log. Start the server with make up."
exec tail -n 50 -F "$server_log"
