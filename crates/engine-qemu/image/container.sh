say "making it a container"
# Its kernel is its host's, and its processes are Berth's to start by Incus and not by an agent.
rm -rf "$root/usr/lib/modules" "$root/mnt/vmlinuz" "$root/mnt/initrd"
inside systemctl --quiet disable qemu-guest-agent.service berth-late.timer
# Nothing tells systemd of a container's network cards as devices.
rm "$root/etc/udev/rules.d/70-berth.rules"
sed -i '/^BindsTo=/d; /^After=sys-/d' "$root/etc/systemd/system/berth-dhcp@.service"
ln -s ../berth-dhcp@.service "$root/etc/systemd/system/sysinit.target.wants/berth-dhcp@eth0.service"
printf '%s\n' "architecture: x86_64" "creation_date: $(date +%s)" "properties:" "  os: Debian" "  release: trixie" \
    "  architecture: amd64" "  description: Berth's VMs as containers" >"$root/mnt/metadata.yaml"

say "writing the archive"
# The bind mount shows the root without what is mounted in it (/proc, /sys, the device nodes) and, by the empty tmpfs,
# without the results.
unshare --mount sh -euc '
    mount --bind "$1" "$1/media"
    mount -t tmpfs -o size=64k,mode=0755 none "$1/media/mnt"
    tar --numeric-owner --xattrs --xattrs-include="*" --sort=name --transform="flags=rSh;s,^\.,rootfs," \
        -cf - -C "$1/mnt" metadata.yaml -C "$1/media" .
' sh "$root" | inside zstd -q -T0 -6 >"$root/mnt/image.tar.zst"

say "handing it over"
tar -C "$root/mnt" --owner=0 --group=0 -cf - image.tar.zst >&3
