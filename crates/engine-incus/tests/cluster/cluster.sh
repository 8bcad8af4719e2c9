#!/bin/bash
# A cluster of Incus on this machine, for tests: a member is an incusd in namespaces of its own, on a network of its own.
# As root, and the packages incus-base and lxcfs.
#   cluster.sh up N IMAGE     starts N members, makes a cluster of them, and imports the image as "berth"
#   cluster.sh kill M         pulls the plug of a member: n1, n2, …
#   cluster.sh start M        brings it back
#   cluster.sh exec I SCRIPT  runs it in an instance
#   cluster.sh cut M | heal M parts a member from the network, and back
#   cluster.sh down           ends all of it
# BASE is a folder for all of it, and NAME begins the names of the network namespaces.
set -eu
: "${BASE:?}" "${NAME:?}"
hub=$NAME-hub
mkdir -p "$BASE"
cd "$BASE"

member_init() { # runs as the first process of a member: whoever ends it pulls its plug
    local dir=$BASE/$1
    hostname "$1"
    mount -t proc proc /proc
    mkdir -p "$dir/cgroup"
    mount --rbind /sys/fs/cgroup "$dir/cgroup"
    mount -t sysfs sysfs /sys
    mount --rbind "$dir/cgroup" /sys/fs/cgroup
    umount -l "$dir/cgroup"
    mkdir -p /var/lib/incus /var/log/incus /run/incus /var/cache/incus /var/lib/lxcfs /run/lxcfs
    mount --bind "$dir/lib" /var/lib/incus
    mount --bind "$dir/log" /var/log/incus
    mount --bind "$dir/cache" /var/cache/incus
    mount -t tmpfs tmpfs /run/incus
    mount -t tmpfs tmpfs /run/lxcfs
    lxcfs /var/lib/lxcfs >"$dir/log/lxcfs.log" 2>&1 &
    ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -Hn)"
    export PATH=/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    cd /
    sleep 0.2
    incusd --group root --logfile=/var/log/incus/incus.log || echo "incusd exited $?"
    sleep infinity
}

network() {
    [ ! -e "/run/netns/$hub" ] || return 0
    ip netns add "$hub"
    ip -n "$hub" link set lo up
    ip -n "$hub" link add br0 type bridge
    ip -n "$hub" addr add 10.77.0.1/24 dev br0
    ip -n "$hub" link set br0 up
    ip netns exec "$hub" sh -c 'echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables' 2>/dev/null || true
    setsid ip netns exec "$hub" dnsmasq -k -p0 -i br0 --bind-interfaces --no-ping --dhcp-rapid-commit \
        --dhcp-authoritative --dhcp-range=10.77.0.100,10.77.0.250,12h --dhcp-leasefile="$BASE/hub.leases" \
        --log-facility=- --user=root </dev/null >"$BASE/hub.log" 2>&1 &
    echo $! >"$BASE/hub.pid"
}

start() {
    local member=$1 number=${1#n} dir=$BASE/$1
    mkdir -p "$dir"/{lib,log,cache}
    if [ ! -e "/run/netns/$NAME-$member" ]; then
        ip netns add "$NAME-$member"
        ip -n "$NAME-$member" link set lo up
        ip -n "$hub" link add "p$number" type veth peer name eth0 netns "$NAME-$member"
        ip -n "$hub" link set "p$number" master br0 up
        ip -n "$NAME-$member" link add brlan type bridge
        ip -n "$NAME-$member" link set eth0 master brlan up
        ip -n "$NAME-$member" addr add "10.77.0.1$number/24" dev brlan
        ip -n "$NAME-$member" link set brlan up
        ip -n "$NAME-$member" route add default via 10.77.0.1
        ip netns exec "$NAME-$member" sh -c 'echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables' 2>/dev/null || true
    fi
    setsid nsenter --net="/run/netns/$NAME-$member" unshare -m -p -u -f --propagation private \
        "$0" member-init "$member" </dev/null >"$dir/console.log" 2>&1 &
    echo $! >"$dir/pid"
    for _ in $(seq 600); do
        curl -sf --max-time 2 --unix-socket "$dir/lib/unix.socket" http://x/1.0 >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "the member $member does not come up:" >&2
    tail -20 "$dir/console.log" >&2
    exit 1
}

kill_member() {
    local outer first
    outer=$(cat "$BASE/$1/pid" 2>/dev/null) || return 0
    first=$(pgrep -P "$outer" | head -n 1) || true
    [ -z "$first" ] || kill -9 "$first"
    for _ in $(seq 100); do [ -d "/proc/$outer" ] || break; sleep 0.1; done
    rm -f "$BASE/$1/pid"
    # What instances leave of theirs in cgroups of version 1; those that are used refuse.
    find /sys/fs/cgroup -depth -type d -path '*/lxc.*/berth-*' -exec rmdir {} + 2>/dev/null || true
    find /sys/fs/cgroup -depth -type d -name 'lxc.*berth-*' -exec rmdir {} + 2>/dev/null || true
}

inside() {
    local member=$1 first
    shift
    first=$(pgrep -P "$(cat "$BASE/$member/pid")" | head -n 1)
    nsenter -t "$first" -n -m -p env PATH=/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"
}

up() {
    local count=$1 image=$2 number token
    grep -q '^root:' /etc/subuid || echo root:1000000:1000000000 >>/etc/subuid
    grep -q '^root:' /etc/subgid || echo root:1000000:1000000000 >>/etc/subgid
    network
    for number in $(seq "$count"); do start "n$number"; done
    inside n1 incus admin init --preseed <<END
config: {core.https_address: "10.77.0.11:8443"}
cluster: {enabled: true, server_name: n1}
storage_pools: [{name: default, driver: btrfs, config: {size: 6GiB}}]
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: default}
    eth0: {type: nic, nictype: bridged, parent: brlan, name: eth0}
END
    for number in $(seq 2 "$count"); do
        token=$(inside n1 incus cluster add "n$number" -q | tail -n 1)
        inside "n$number" incus admin init --preseed <<END
cluster: {enabled: true, server_name: n$number, server_address: "10.77.0.1$number:8443", cluster_token: "$token", member_config: [{entity: storage-pool, name: default, key: size, value: 6GiB}, {entity: storage-pool, name: default, key: source, value: ""}]}
END
    done
    inside n1 incus image import "$image" --alias berth -q >/dev/null
}

down() {
    local dir
    for dir in "$BASE"/n[0-9]*; do
        [ -d "$dir" ] || continue
        kill_member "$(basename "$dir")"
        ip netns del "$NAME-$(basename "$dir")" 2>/dev/null || true
        # A pool of a member that was killed may hold its file's loop device for ever.
        losetup -n -O NAME -j "$dir/lib/disks/default.img" | xargs -r losetup -d || true
    done
    [ ! -f hub.pid ] || kill "$(cat hub.pid)" 2>/dev/null || true
    ip netns del "$hub" 2>/dev/null || true
    sleep 0.5
    rm -rf "$BASE"/n[0-9]* "$BASE"/hub.*
}

case $1 in
member-init) member_init "$2" ;;
up) up "$2" "$3" ;;
kill) kill_member "$2" ;;
start) start "$2" ;;
exec) inside n2 incus exec "$2" -- sh -c "$3" ;;
cut) ip -n "$hub" link set "p${2#n}" down ;;
heal) ip -n "$hub" link set "p${2#n}" up ;;
down) down ;;
esac
