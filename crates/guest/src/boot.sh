# Makes a freshly booted guest the VM of one account. Run as root by /bin/sh after every boot, as
# early as the agent answers, beside the rest of the boot, and in every guest that has just been forked. Any number of runs
# has the effect of one.
# What comes before it has set: hostname, names, user, authorized_keys, host_key, host_certificate, page and units.

[ -d /run/berth/keys ] || mkdir -p /run/berth/keys

# The name. sudo and others look the VM up by it, so it is in /etc/hosts; the member's own lines there stay.
# A container's root may not write there.
{ echo "$hostname" >/proc/sys/kernel/hostname; } 2>/dev/null || hostname "$hostname"
slurp /etc/hostname
[ "$text" = "$hostname
" ] || put /etc/hostname "$hostname
"
slurp /etc/hosts
ours="127.0.1.1 $names$hostname # berth
"
case "$text" in
*"$ours"*) ;;
*)
    others=
    while IFS= read -r line || [ -n "$line" ]; do
        case "$line" in *"# berth") ;; *) others="$others$line
" ;; esac
    done </etc/hosts
    put /etc/hosts "$others$ours"
    ;;
esac
[ -s /etc/machine-id ] || systemd-machine-id-setup >/dev/null 2>&1

if ! entry /etc/passwd "$user"; then
    echo "$user:100000:65536" >>/etc/subuid
    echo "$user:100000:65536" >>/etc/subgid
fi
make_user "$user" 1000 member
IFS=: read -r _ _ uid gid _ home _ <<EOF
$found
EOF
if [ "$uid" -lt 1000 ]; then
    echo "the account name $user belongs to a user of the system" >&2
    exit 1
fi

# A home that is missing, at first or because it was deleted, is made anew, with the page that the web server shows. A
# guest that was forked has one ready.
if [ ! -d "$home" ]; then
    new=/home/.ready
    if [ ! -d "$new" ]; then
        new=$home.new
        make_home "$new" "$uid" "$gid"
    fi
    printf '%s' "$page" >"$new/Web/index.html"
    mv "$new" "$home"
fi
[ /run/berth/web -ef "$home/Web" ] || ln -sfn "$home/Web" /run/berth/web

# Keys, then sshd: nobody meets an sshd that does not know them yet.
put "/run/berth/keys/$user" "$authorized_keys"
all_guests
verb=start
if certify; then
    verb=reload-or-restart
fi
slurp /etc/ssh/ssh_host_ed25519_key
if [ "$text" != "$host_key" ]; then
    (umask 077; put /etc/ssh/ssh_host_ed25519_key "$host_key")
    verb=reload-or-restart
fi
systemctl --no-block $verb $units

# What nobody waits for: the public half of the host key, and the file system's growth when the disk has grown.
(
    if [ ! -f /etc/ssh/ssh_host_ed25519_key.pub ] || [ "$text" != "$host_key" ]; then
        public=$(ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key)
        put /etc/ssh/ssh_host_ed25519_key.pub "$public
"
    fi
    read -r size </sys/class/block/vda/size
    slurp /var/lib/berth/grown
    if [ "$text" != "$size
" ]; then
        mkdir -p /var/lib/berth
        resize2fs /dev/vda
        put /var/lib/berth/grown "$size
"
    fi
) >/dev/null 2>&1 </dev/null &
