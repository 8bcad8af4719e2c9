# The users of those who are let in beside the VM's owner, as `others` tells: each has a call of guest_user, and whoever had
# one earlier and has none now is locked. Their names are kept in a file, since a user that the owner has made is the owner's.

# guest_user NAME UID SUDO KEYS: makes the user, once, or opens it again, and gives it its keys.
guest_user() {
    here="$here$1
"
    # Somebody's who was made in the guest: its files are not for this guest.
    if ! entry /etc/passwd "$1" && { has_id /etc/passwd "$2" || has_id /etc/group "$2"; }; then
        echo "the id $2 of the account $1 belongs to another user or group" >&2
        return 0
    fi
    make_user "$1" "$2" "guest-$2"
    IFS=: read -r _ _ uid gid _ home _ <<END
$found
END
    if [ "$uid" -le 1000 ]; then
        echo "the account name $1 belongs to a user of the system" >&2
        rm -f "/run/berth/keys/$1"
        return 0
    fi
    case "$before" in *"
$1
"*) ;; *)
        # It may have been locked, also before its disk was another.
        expires "$1" ''
        ;;
    esac
    if [ ! -d "$home" ]; then
        make_home "$home.new" "$uid" "$gid"
        rm -rf "$home.new/Web"
        chmod 0700 "$home.new"
        mv "$home.new" "$home"
    fi
    [ "$3" = 0 ] || sudoers="$sudoers#$uid ALL=(ALL:ALL) NOPASSWD: ALL
"
    put "/run/berth/keys/$1" "$4"
}

# expires NAME DAY: from that day on nobody logs in to the account, whatever they have (shadow(5)). Empty for never.
expires() {
    lines=
    while IFS= read -r line; do
        case "$line" in "$1":*)
            IFS=: read -r name password changed least most warn inactive _ rest <<END
$line
END
            line="$name:$password:$changed:$least:$most:$warn:$inactive:$2:$rest"
            ;;
        esac
        lines="$lines$line
"
    done </etc/shadow
    [ -f /etc/shadow.berth ] && rm -f /etc/shadow.berth
    cp -p /etc/shadow /etc/shadow.berth
    printf '%s' "$lines" >/etc/shadow.berth
    mv -f /etc/shadow.berth /etc/shadow
}

# lock NAME: its keys go, it cannot log in, and what it runs ends. Its home stays.
lock() {
    rm -f "/run/berth/keys/$1"
    entry /etc/passwd "$1" || return 0
    IFS=: read -r _ _ uid _ <<END
$found
END
    [ "$uid" -gt 1000 ] || return 0
    expires "$1" 1
    # What it could still do with a program that runs on.
    (pkill -KILL -U "$uid"; crontab -r -u "$1"; loginctl disable-linger "$1") >/dev/null 2>&1 </dev/null || true
}

all_guests() {
    slurp /var/lib/berth/guests
    before="
$text"
    here=
    sudoers=
    others
    if [ "$before" = "
" ] && [ -z "$here" ]; then
        return 0
    fi
    # Rights go before people do, and come before they come.
    slurp /etc/sudoers.d/berth-guests
    if [ "$text" != "$sudoers" ]; then
        (umask 0337; printf '%s' "$sudoers" >/etc/berth-guests.new)
        mv -f /etc/berth-guests.new /etc/sudoers.d/berth-guests
    fi
    for name in $before; do
        case "
$here" in *"
$name
"*) ;; *) lock "$name" ;; esac
    done
    [ "$before" = "
$here" ] || { mkdir -p /var/lib/berth; put /var/lib/berth/guests "$here"; }
}
