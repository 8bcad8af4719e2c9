# Replaces the keys that Berth lets in, sees to who is a guest, and replaces the certificate of sshd's own where that is
# another one. What comes before it has set: user, authorized_keys and host_certificate.
[ -d /run/berth/keys ] || mkdir -p /run/berth/keys
put "/run/berth/keys/$user" "$authorized_keys"
all_guests
if certify; then
    systemctl --no-block reload ssh.service
fi
