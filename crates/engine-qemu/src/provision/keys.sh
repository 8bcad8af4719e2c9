# Replaces the keys that Berth lets in. What comes before it has set: user and authorized_keys.
set -eu
umask 022
[ -d /run/berth/keys ] || mkdir -p /run/berth/keys
printf '%s' "$authorized_keys" >"/run/berth/keys/$user.new"
mv -f "/run/berth/keys/$user.new" "/run/berth/keys/$user"
