# What the scripts that run as root in a guest have in common. Starting a program is what costs time here, so the shell does
# by itself what it can.
set -eu
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# slurp FILE: its text in $text, empty if there is no such file.
slurp() {
    text=
    [ -f "$1" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        text="$text$line
"
    done <"$1"
}

# put FILE TEXT: the file has the new text or the old one, never half of it.
put() {
    printf '%s' "$2" >"$1.new" && mv -f "$1.new" "$1"
}

# entry FILE NAME: the line of a passwd or group file, in $found.
entry() {
    found=
    while IFS= read -r line; do
        case "$line" in "$2":*) found=$line; return 0 ;; esac
    done <"$1"
    return 1
}

# certify: sshd shows $host_certificate beside its key from its next start or reload on. Fails where it did so before.
certify() {
    [ -n "$host_certificate" ] || return 1
    slurp /etc/ssh/ssh_host_ed25519_key-cert.pub
    [ "$text" != "$host_certificate" ] || [ ! -f /etc/ssh/sshd_config.d/51-berth-certificate.conf ] || return 1
    put /etc/ssh/ssh_host_ed25519_key-cert.pub "$host_certificate" &&
        put /etc/ssh/sshd_config.d/51-berth-certificate.conf "# Written by Berth; changes are lost.
HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
"
}

# has_id FILE ID: whether a passwd or group file has a line with this id.
has_id() {
    while IFS=: read -r _ _ id _; do
        [ "$id" != "$2" ] || return 0
    done <"$1"
    return 1
}

# make_user NAME UID GROUP: the user, once, and its line in $found; what is changed later (shell, groups, home) stays. Its
# group has its name, or GROUP where there is such a group already. The lines are those of useradd, which takes a second
# without hardware virtualisation.
make_user() {
    entry /etc/passwd "$1" && return 0
    group=$1
    entry /etc/group "$group" && group=$3
    if ! entry /etc/group "$group"; then
        echo "$group:x:$2:" >>/etc/group
        echo "$group:!::" >>/etc/gshadow
    fi
    echo "$1:!:20000:0:99999:7:::" >>/etc/shadow
    echo "$1:x:$2:$2::/home/$1:/bin/bash" >>/etc/passwd
    entry /etc/passwd "$1"
}

# make_home DIR: as a member finds it. Others may pass through it, as the web server must to reach ~/Web, but not look
# around.
make_home() {
    rm -rf "$1"
    mkdir -p "$1/Web"
    cp -r /etc/skel/. "$1"
    : >"$1/Web/index.html"
    chown -R "${2:-1000}:${3:-1000}" "$1"
    chmod 0711 "$1"
}

