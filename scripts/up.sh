#!/usr/bin/env bash
# From a bare machine to a command that opens a shell in a VM. Can be run again at any time; asks nothing.
. "$(dirname "$0")/lib.sh"
. scripts/server.sh

# Whose account and keys these are: the person, also behind sudo.
login=${SUDO_USER:-${USER:-$(id -un)}}
if [ "$(id -u)" != 0 ]; then login=$(id -un); fi
person=$login
getent passwd "$person" >/dev/null || person=$(id -un)
person_home=$(getent passwd "$person" | cut -d: -f6)
if [ "$person" = "$(id -un)" ]; then person_home=${HOME:-$person_home}; fi

as_person() {
    if [ "$person" = "$(id -un)" ]; then "$@"; else runuser -u "$person" -- env HOME="$person_home" USER="$person" "$@"; fi
}

serve() {
    local pid
    if pid=$(server_pid); then
        if server_is_current "$pid"; then return; fi
        say "The server is of an older build: restarting it; VMs run on"
        stop_server "$pid"
    fi
    start_server
}

# A build takes minutes, so ports that are taken are told before it. Without a berth to ask, only those of the defaults
# are known.
need_ports() {
    local taken=
    if [ -x "$berth" ]; then
        taken=$("$berth" check-config 2>&1 >/dev/null | grep -E '^(ssh|http)\.listen: Port ' || true)
    elif [ -z "${BERTH_CONFIG:-}" ] && ! server_pid >/dev/null; then
        taken=$(tell_taken ssh 2222 && tell_taken http 8080)
    fi
    if [ -n "$taken" ]; then
        printf '%s\n' "$taken" >&2
        fail "$wrong_configuration"
    fi
}

# Tells of a port that is taken in the words of check-config.
tell_taken() { # tell_taken KEY PORT
    if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then
        printf '%s.listen: Port %s of 127.0.0.1 is in use by another program (“ss -ltnp sport = :%s” names it). End it, or choose another port.\n' "$1" "$2" "$2"
    fi
}

ensure_account() {
    account=$("$berth" admin account name-for "$login")
    if ! "$berth" admin account list 2>/dev/null | cut -f1 | grep -qxF "$account"; then
        say "Adding the account $account"
        "$berth" admin account add "$account" >/dev/null
    fi
}

# Adds a public key; what refuses it is said, and no reason to stop.
add_key() { "$berth" admin key add "$account" "$1" >"$logs/key.log" 2>&1 || { sed "s|^|         $1: |" "$logs/key.log" >&2; false; }; }

# Whether the private half of a public key can be used from here: it lies beside it, or an agent has it.
usable() {
    local fingerprint
    [ ! -e "${1%.pub}" ] || return 0
    fingerprint=$(ssh-keygen -lf "$1" 2>/dev/null | cut -d' ' -f2) && [ -n "$fingerprint" ] || return 1
    as_person ssh-add -l 2>/dev/null | grep -qF "$fingerprint"
}

ensure_keys() {
    local public
    identities=()
    for public in "$person_home"/.ssh/*.pub; do
        [ -f "$public" ] || continue
        case $public in *-cert.pub) continue ;; esac
        add_key "$public" || continue
        if ! usable "$public"; then
            say "The private half of $public is not here, so that key is for use from elsewhere"
        elif [ -e "${public%.pub}" ]; then
            identities+=("${public%.pub}")
        else
            identities+=("$public")
        fi
    done
    if [ ${#identities[@]} -eq 0 ]; then
        own_key
    fi
}

# For a person without a key: one in the state folder, theirs alone.
own_key() {
    local folder=$state/keys key=$state/keys/$account
    [ -d "$folder" ] || mkdir -m 711 "$folder"
    if [ ! -e "$key" ]; then
        say "There is no ssh key in $person_home/.ssh: making one, $key"
        ssh-keygen -q -t ed25519 -N '' -C "$account@berth" -f "$key"
        chown "$person:" "$key" "$key.pub"
    fi
    add_key "$key.pub" || fail "The key $key was refused."
    identities=("$key")
}

ensure_vm() {
    vm=$("$berth" admin vm list "$account" 2>/dev/null | head -n 1 | cut -f1)
    if [ -z "$vm" ]; then
        say "Adding a VM"
        vm=$("$berth" admin vm add "$account")
    fi
}

write_ssh_config() {
    local identity arguments=()
    for identity in "${identities[@]}"; do arguments+=(--identity "$identity"); done
    "$berth" admin account ssh-config "$account" --for-file "$state/ssh_config" "${arguments[@]}" >"$state/ssh_config.new"
    chmod 644 "$state/ssh_config.new"
    mv "$state/ssh_config.new" "$state/ssh_config"
}

# The command that is printed at the end, run for real. A key with a passphrase and no agent cannot be used without a
# person: then it is enough that the VM answers.
prove() {
    step "Starting $vm" "$logs/vm.log" "$berth" admin vm start "$vm"
    say "Trying the command …"
    if try_ssh; then return; fi
    for identity in "${identities[@]}"; do
        if as_person ssh-keygen -y -P '' -f "$identity" </dev/null >/dev/null 2>&1; then
            cat "$logs/ssh.log" >&2
            fail "The VM runs, but ssh does not get into it (above). The server's log: $server_log"
        fi
    done
    say "Your key has a passphrase, so ssh will ask you for it; the VM is up and waits"
}

try_ssh() {
    as_person ssh -F "$state/ssh_config" -o BatchMode=yes -o ConnectTimeout=60 "$vm" true </dev/null >"$logs/ssh.log" 2>&1 &
    watch $! "$logs/ssh.log" "Trying the command"
    wait $!
}

need_ports
scripts/build.sh both
serve
ensure_account
ensure_keys
ensure_vm
write_ssh_config
prove
link=$("$berth" admin account link "$account" 2>/dev/null) || fail "The server makes no link to the website. Its log: $server_log"
say "Berth is up"
cat <<END

A shell in your VM:

    ssh -F $state/ssh_config $vm

Website   $link
          (this link logs you in: once, within ten minutes; another one: $berth admin account link $account)
Log       $server_log (make logs follows it)
Stop      make down (stops the VMs too)
END
