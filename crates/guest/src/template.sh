# Makes a booted guest that is nobody's one to copy VMs from. Whatever it starts or reads now, no copy has to; what tells
# one guest from another goes. No connection has been opened: the kernel draws its secrets for TCP at the first one, so
# each copy draws its own. After it comes zero.sh.

# The part of the boot that can wait comes now, or it would come in each copy at once.
systemctl is-system-running --wait >/dev/null || true
systemctl stop berth-late.timer
systemctl start berth-late.service

# A member's first log-in, by somebody who is gone after it: sshd speaks through a pipe. What it needs, and no more, is in
# the memory of each copy.
sync
echo 3 >/proc/sys/vm/drop_caches
work=/run/berth-template
rm -rf "$work"
mkdir -p "$work" /run/sshd
cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow "$work"
make_home "$work/home"
echo 'template:x:1000:' >>/etc/group
echo 'template:*:20000:0:99999:7:::' >>/etc/shadow
echo "template:x:1000:1000::$work/home:/bin/bash" >>/etc/passwd
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
mkdir -p /run/berth/keys
cp "$work/key.pub" /run/berth/keys/template
ssh -tt -F none -i "$work/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o ProxyCommand="/usr/sbin/sshd -i -h $work/key" template@template 'bash -lic exit' </dev/null >"$work/said" 2>&1 ||
    cat "$work/said" >&2
systemctl stop user@1000.service user-runtime-dir@1000.service
for file in passwd group shadow gshadow; do mv -f "$work/$file" "/etc/$file"; done
rm -rf "$work" /run/berth/keys/template

make_home /home/.ready
# A copy whose memory is lost boots from what is on the disk, and then draws its own.
rm -f /var/lib/systemd/random-seed /etc/ssh/ssh_host_*
: >/etc/machine-id
journalctl --relinquish-var
rm -rf /var/log/journal/*
sync
