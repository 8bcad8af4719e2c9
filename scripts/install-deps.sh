#!/usr/bin/env bash
# Installs what is missing for: run (the server and its image), build (berth itself), test (all tests but those of a
# cluster), cluster (those), fuzz (libFuzzer). Asks nothing.
# usage: scripts/install-deps.sh [run] [build] [test] [cluster] [fuzz]
. "$(dirname "$0")/lib.sh"

wanted=
incus=
for purpose in "$@"; do
    case $purpose in
    run) wanted+=" qemu-system-x86 qemu-utils mmdebstrap uidmap passt openssh-client e2fsprogs debian-archive-keyring" ;;
    build) wanted+=" gcc libc6-dev make ca-certificates curl" ;;
    fuzz) wanted+=" g++" ;;
    cluster)
        wanted+=" iproute2 procps util-linux"
        incus="incus-base incus-client lxcfs attr btrfs-progs dnsmasq-base"
        ;;
    test) wanted+=" dropbear-bin git iproute2 netcat-openbsd openssh-server pebble postgresql procps putty-tools python3 python3-asyncssh python3-paramiko rsync shellcheck ssh-audit sudo tmux util-linux"
        # By their commands: they come from many places, and Debian's npm does not go with another one's nodejs.
        command -v node >/dev/null && command -v npm >/dev/null || wanted+=" nodejs npm"
        [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || wanted+=" chromium"
        ;;
    *) fail "install-deps.sh: there is no purpose $purpose. Give run, build, test, cluster, fuzz." ;;
    esac
done

. /etc/os-release
release=${VERSION_CODENAME:-unknown}
newest_qemu=10

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
major_of_package() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null | sed 's/^[0-9]*://; s/[^0-9].*//'; }

# What works has no need to be touched, whoever installed it.
missing() {
    local package
    for package in ${1-$wanted}; do
        installed "$package" || printf '%s ' "$package"
    done
}

# Debian 12 has QEMU 7.2; the newer one is in its backports.
wants_backports() {
    [ "$release" = bookworm ] && [ "$(dpkg --print-architecture)" = amd64 ] &&
        case " $wanted " in *" qemu-system-x86 "*) true ;; *) false ;; esac &&
        { ! installed qemu-system-x86 || [ "$(major_of_package qemu-system-x86)" -lt "$newest_qemu" ]; } &&
        [ ! -e "$logs/no-backports" ]
}

apt() { root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"; }

# An unrelated repository that is broken is not our concern: what is missing then, the install below says. Another
# update may hold the lists.
update() {
    local tries=0
    until apt -o APT::Update::Error-Mode=any update; do
        tries=$((tries + 1))
        [ "$tries" -lt 3 ] || return 0
        sleep 5
    done
}

# shellcheck disable=SC2016 # $(…) in the formats is for apt-get
enable_backports() {
    local mirror
    [ -z "$(apt-get indextargets --format '$(CODENAME)' 'Codename: bookworm-backports' 'Created-By: Packages')" ] || return 0
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | head -n 1)
    [ -n "$mirror" ] || return 0
    printf '%s\n' "# For newer packages; made by Berth's make up." "Types: deb" "URIs: $mirror" \
        "Suites: bookworm-backports" "Components: main" "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" |
        root tee /etc/apt/sources.list.d/berth-backports.sources >/dev/null
    update
}

install_backports() {
    enable_backports
    # Where the backports are out of reach, the ordinary package below does, with less.
    apt install --no-install-recommends -t bookworm-backports qemu-system-x86 qemu-utils || touch "$logs/no-backports"
}

# Debian 13 and Ubuntu 24.04 have Incus, Debian 12 in its backports. The tests start their own: the system's stays off.
install_incus() {
    local policy=/usr/sbin/policy-rc.d release_of=() ours=
    if [ "$release" = bookworm ]; then
        enable_backports
        release_of=(-t bookworm-backports)
    fi
    if [ ! -e $policy ]; then
        # Whatever ends this: with it left behind no package of this machine would start its service any more.
        # shellcheck disable=SC2064 # the path as it is now
        trap "root rm -f $policy" EXIT
        trap 'exit 1' INT TERM HUP
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | root tee $policy >/dev/null
        root chmod 755 $policy
    fi
    # shellcheck disable=SC2046 # a list of words
    apt install --no-install-recommends "${release_of[@]}" $(missing "$incus") || { [ -z "$ours" ] || root rm -f $policy; return 1; }
    [ -z "$ours" ] || root rm -f $policy
}

# The tests start a server of their own: none for the whole system is made and started by the package.
install_postgresql_common() {
    installed postgresql-common || apt install --no-install-recommends postgresql-common || return
    root sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
}

check_system() {
    case ${ID:-} in
    debian | ubuntu) command -v apt-get >/dev/null && return ;;
    esac
    case " ${ID_LIKE:-} " in *" debian "* | *" ubuntu "*) command -v apt-get >/dev/null && return ;; esac
    fail "This installs packages on Debian 12, Debian 13 and Ubuntu 24.04. On ${PRETTY_NAME:-this system}, install by hand:$wanted"
}

tell_qemu() {
    local version major
    version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
    major=${version%%.*}
    if [ -z "$version" ]; then
        fail "qemu-system-x86_64 does not run here. Berth needs a QEMU for x86-64."
    elif [ "$major" -lt 8 ] && [ "${version#7.2}" = "$version" ]; then
        fail "QEMU $version is too old: Berth needs 7.2, and works best with $newest_qemu."
    elif [ "$major" -lt "$newest_qemu" ]; then
        say "QEMU $version works; with $newest_qemu or newer, VMs are reached sooner after a reboot inside"
    fi
}

if [ -n "$(missing)" ] || wants_backports; then
    check_system
    step "Reading the package lists" "$logs/apt-update.log" update
    if wants_backports; then step "Installing QEMU from backports" "$logs/apt-qemu.log" install_backports; fi
    packages=$(missing)
    case " $packages " in *" postgresql "*) step "Preparing for PostgreSQL" "$logs/apt-postgresql.log" install_postgresql_common ;; esac
    if [ -n "$packages" ]; then
        # shellcheck disable=SC2086 # a list of words
        step "Installing ${packages% }" "$logs/apt-install.log" apt install --no-install-recommends $packages
    fi
fi
if [ -n "$(missing "$incus")" ]; then
    check_system
    [ "$release" != bookworm ] || step "Reading the package lists" "$logs/apt-update.log" update
    step "Installing Incus" "$logs/apt-incus.log" install_incus
fi
case " $* " in *" run "*) tell_qemu ;; esac
