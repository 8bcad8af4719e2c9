# The last step of the build. It runs outside of the new root (the folder $1) and, for an ordinary user, inside the user
# namespace in which the owners of the files are right. What comes before it has defined put_guest_files and put_init, and
# the kernel's package is downloaded. The result, a tar archive of vmlinuz, initrd and disk, goes to descriptor 3.
set -eu
root=$1

say() { echo "berth: $*" >&2; }
inside() { chroot "$root" "$@"; }

say "taking the kernel out of its package"
name=$(inside apt-cache show --no-all-versions linux-image-cloud-amd64 | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
package=$(cd "$root/var/cache/apt/archives" && ls | grep -F "${name}_" | sort -V | tail -n 1)
mkdir "$root/kernel"
inside dpkg-deb --extract "/var/cache/apt/archives/$package" /kernel
version=$(ls "$root/kernel/usr/lib/modules")
mv "$root/kernel/usr/lib/modules" "$root/usr/lib/modules"
inside depmod "$version"

# The kernel as an ELF file starts at once (PVH); the compressed one would unpack itself for a second first.
# Offsets: the Linux boot protocol's setup_sects, payload_offset and payload_length.
bzimage=$root/kernel/boot/vmlinuz-$version
number() { od -A n -t "u$2" -j "$1" -N "$2" "$bzimage" | tr -d ' '; }
start=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
tail -c "+$((start + 1))" "$bzimage" | head -c "$(($(number 588 4) - 4))" | inside zstd -dcq >"$root/mnt/vmlinuz"

say "making the initrd"
initrd=$root/initrd
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/sys" "$initrd/root" "$initrd/modules"
cp "$root/usr/bin/busybox" "$initrd/bin/busybox"
put_init "$initrd/init"
for module in net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/block/virtio_blk \
    drivers/char/hw_random/virtio-rng drivers/virtio/virtio_balloon; do
    inside xz -dc "/usr/lib/modules/$version/kernel/$module.ko.xz" >"$initrd/modules/${module##*/}.ko"
done
inside sh -c 'cd /initrd && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet' >"$root/mnt/initrd"
rm -rf "$root/kernel" "$initrd"

say "setting up the guest"
put_guest_files "$root"
echo 'en_US.UTF-8 UTF-8' >"$root/etc/locale.gen"
inside locale-gen >/dev/null
echo LANG=C.UTF-8 >"$root/etc/default/locale"
echo localhost >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
ln -sf /run/berth/resolv.conf "$root/etc/resolv.conf"
sed -i -e '/^AcceptEnv/d' -e '/^Subsystem/d' "$root/etc/ssh/sshd_config"
inside usermod --lock --shell /usr/sbin/nologin root 2>/dev/null || true

# The agent sets the clock only where it can write the hardware clock too, which in QEMU is the host's anyway, and the real
# hwclock would wait for the next second.
[ -e "$root/usr/sbin/hwclock" ] || ln -s /bin/true "$root/usr/sbin/hwclock"

inside a2enmod -q rewrite headers
inside a2dissite -q 000-default
inside a2ensite -q berth
inside a2disconf -q other-vhosts-access-log serve-cgi-bin

inside systemctl --quiet disable ssh.service
inside systemctl --quiet enable qemu-guest-agent.service apache2.service berth-late.timer
inside systemctl --quiet set-default multi-user.target
# Nothing in the boot waits for these; berth-late.service starts them, and so does whoever needs one.
mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    systemd-modules-load.service kmod-static-nodes.service systemd-tmpfiles-setup-dev-early.service \
    systemd-tmpfiles-setup-dev.service systemd-udev-load-credentials.service; do
    ln -s /dev/null "$root/etc/systemd/system/sysinit.target.wants/$unit"
done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service \
    rsync.service sshd-keygen.service getty@tty1.service getty-static.service serial-getty@ttyS0.service \
    tmp.mount run-lock.mount systemd-remount-fs.service systemd-hibernate-clear.service systemd-firstboot.service \
    ldconfig.service systemd-journal-catalog-update.service systemd-hwdb-update.service systemd-sysusers.service \
    systemd-update-done.service systemd-machine-id-commit.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    systemd-pcrmachine.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service remote-fs.target \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-initctl.socket systemd-creds.socket \
    systemd-pcrextend.socket systemd-pcrlock.socket systemd-sysext.socket \
    systemd-pstore.service systemd-timesyncd.service systemd-networkd.service apache-htcacheclean.service; do
    inside systemctl --quiet mask "$unit"
done
for file in systemd-nologin.conf systemd-pstore.conf x11.conf; do
    ln -s /dev/null "$root/etc/tmpfiles.d/$file"
done
for generator in systemd-ssh-generator systemd-gpt-auto-generator systemd-hibernate-resume-generator \
    systemd-tpm2-generator systemd-rc-local-generator systemd-sysv-generator systemd-getty-generator \
    systemd-system-update-generator; do
    mkdir -p "$root/etc/systemd/system-generators"
    ln -s /dev/null "$root/etc/systemd/system-generators/$generator"
done

# The member's own systemd is part of the first login, and these are most of what it does there.
mkdir -p "$root/etc/systemd/user-generators" "$root/etc/systemd/user"
ln -s /dev/null "$root/etc/systemd/user-generators/systemd-xdg-autostart-generator"
for unit in ssh-agent.socket ssh-agent.service; do ln -s /dev/null "$root/etc/systemd/user/$unit"; done

say "cleaning up"
inside apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/* "$root"/var/cache/debconf/*-old \
    "$root"/etc/ssh/ssh_host_* "$root"/etc/update-motd.d/* "$root"/var/lib/dbus/machine-id "$root"/etc/mailname \
    "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/tmp/* "$root"/run/*
mkdir -p "$root/var/log/apache2" "$root/var/log/journal"
: >"$root/etc/machine-id"
: >"$root/etc/motd"

say "writing the disk"
# 10 GB from the start, in a sparse file: a VM with a disk of this size has nothing to grow. The tables are written now
# (as holes), so that no VM spends its first minutes writing them into its overlay. The bind mount shows the root without
# what is mounted in it (/proc, /sys, the device nodes) and, by the empty tmpfs, without the results.
unshare --mount sh -euc '
    mount --bind "$1" "$1/media"
    mount -t tmpfs -o size=64k,mode=0755 none "$1/media/mnt"
    truncate -s 10G "$1/mnt/disk"
    mke2fs -q -F -t ext4 -L berth -m 1 -J size=64 -E lazy_itable_init=0,lazy_journal_init=1,nodiscard,root_owner=0:0 \
        -d "$1/media" "$1/mnt/disk"
' sh "$root"

say "handing it over"
tar -C "$root/mnt" --sparse --owner=0 --group=0 -cf - vmlinuz initrd disk >&3
