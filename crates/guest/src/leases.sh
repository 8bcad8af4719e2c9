# Prints the leases that hold, each as a line: SINCE UNTIL WHAT. What a lease is, keepawake(1) in the image tells. Anybody in
# the guest may write there, so little time is given to it. At most 32 are told.
ulimit -t 5
cd /run/berth/awake 2>/dev/null || exit 0
now=$(date +%s)
told=0
for file in *; do
    [ -f "$file" ] && [ ! -h "$file" ] && read -r pid begun since until what <"$file" || continue
    case $until in
    -)
        case $pid in *[!0-9]* | '') continue ;; esac
        started=
        if read -r line 2>/dev/null <"/proc/$pid/stat"; then
            # The name in brackets may have anything in it.
            set -f
            set -- ${line##*) }
            set +f
            case ${1-} in Z | X) ;; *) started=${20-} ;; esac
        fi
        [ "$begun" = "$started" ] || { rm -f -- "$file"; continue; }
        ;;
    *[!0-9]* | '') continue ;;
    *) [ "$until" -gt "$now" ] || { rm -f -- "$file"; continue; } ;;
    esac
    printf '%s %s %.200s\n' "$since" "$until" "$what"
    told=$((told + 1))
    [ $told -lt 32 ] || break
done
