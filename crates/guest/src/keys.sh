# Replaces the keys that Berth lets in, sees to who is a guest, and replaces the certificate of sshd's own where that is
# another one. What comes before it has set: user, authorized_keys and host_certificate.
[ -d /run/berth/keys ] || mkdir -p /run/berth/keys
put "/run/berth/keys/$user" "$authorized_keys"
all_guests
if certify && /usr/sbin/sshd -t; then
    if read -r pid </run/sshd.pid; then
        # Waited for, so that whoever connects next meets it: the file is written again when sshd has read its settings.
        : >/run/sshd.pid
        kill -HUP "$pid"
        tries=100
        while [ ! -s /run/sshd.pid ] && [ $((tries -= 1)) -gt 0 ]; do
            sleep 0.05
        done
    else
        systemctl --no-block reload ssh.service
    fi
fi
