# Takes over everything below /home of the disk that this VM had before it was rebuilt, and which it has been lent. What comes
# before it has set: user, and serial, by which the disk is known. An exit status from 11 on has a meaning of its own.
old=/run/berth/old
device=
tries=0
while [ -z "$device" ]; do
    for file in /sys/block/vd*/serial; do
        name=
        # There is no end of a line in it.
        read -r name <"$file" || true
        [ "$name" != "$serial" ] || device=${file%/serial}
    done
    tries=$((tries + 1))
    [ $tries -le 300 ] || exit 11
    [ -n "$device" ] || sleep 0.1
done
device=/dev/${device##*/}
tries=0
until [ -b "$device" ]; do
    tries=$((tries + 1))
    [ $tries -le 100 ] || exit 11
    sleep 0.1
done

# What was under way when it was last written is finished on a layer over the disk, and not on the disk itself.
mkdir -p "$old"
mount -t ext4 -o ro,nosuid,nodev,noexec "$device" "$old" || exit 12
if entry "$old/etc/passwd" "$user"; then
    IFS=: read -r _ _ _ _ _ home _ <<EOF
$found
EOF
    case "$home" in /home/*) ;; *) exit 13 ;; esac
fi
[ -d "$old/home" ] && [ ! -h "$old/home" ] || exit 14

# Owners, modes, times, hard links, attributes and with them access lists; holes stay holes.
rm -rf /home.kept /home.fresh
if ! cp -dR --sparse=auto --preserve=mode,ownership,timestamps,links,xattr "$old/home" /home.kept 2>/run/berth/said; then
    head -c 2000 /run/berth/said >&2
    left=$(stat -f -c %a /)
    [ "$left" -lt 1024 ] && exit 15
    exit 16
fi
mv /home /home.fresh
mv /home.kept /home
# A home that its owner has deleted is made anew, as at every boot.
[ -d "/home/$user" ] || mv "/home.fresh/$user" "/home/$user"
rm -rf /home.fresh
umount "$old"
rmdir "$old"
sync
