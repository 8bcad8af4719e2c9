# Makes a copy of another guest one of its own, before anybody can reach it: random numbers first, then what is drawn from
# them. What comes before it has set: entropy (hexadecimal) and now (seconds.nanoseconds).
# One program does all of it: each costs 20 ms without hardware virtualisation.
perl -e '
    use strict;
    my ($seconds, $nanoseconds) = split /\./, $ARGV[0];
    my $entropy = pack "H*", scalar <STDIN> =~ s/\s//gr;
    # RNDADDENTROPY and RNDRESEEDCRNG, random(4): from here on nothing is drawn that another copy draws too.
    open my $random, ">", "/dev/random" or die "random: $!";
    ioctl $random, 0x40085203, pack("ii", 8 * length $entropy, length $entropy) . $entropy or die "entropy: $!";
    ioctl $random, 0x5207, 0 or die "reseed: $!";
    # clock_settime(CLOCK_REALTIME)
    syscall(227, 0, pack "qq", $seconds, $nanoseconds) == 0 or die "clock: $!";
    open my $drawn, "<:raw", "/dev/urandom" or die "urandom: $!";
    sysread($drawn, my $seed, 512) == 512 && sysread($drawn, my $id, 16) == 16 or die "urandom: $!";
    # A UUID of version 4, without dashes: machine-id(5).
    vec($id, 6, 8) = vec($id, 6, 8) & 0x0f | 0x40;
    vec($id, 8, 8) = vec($id, 8, 8) & 0x3f | 0x80;
    my @files = ("/etc/machine-id", 0444, unpack("H*", $id) . "\n");
    # A new file: systemd counts as entropy only what it has marked itself.
    push @files, "/var/lib/systemd/random-seed", 0600, $seed;
    while (my ($path, $mode, $text) = splice @files, 0, 3) {
        unlink "$path.new";
        sysopen my $file, "$path.new", 0301, $mode or die "$path: $!";
        syswrite($file, $text) == length $text && close $file && rename "$path.new", $path or die "$path: $!";
    }
' "$now" <<END
$entropy
END

# What nobody waits for: an address on the way out, and programs that remember who the other guest was. The journal gets
# a new folder, and what it had of the other guest goes.
(
    sleep 1
    for file in /run/berth-dhcp.*.pid; do
        read -r pid <"$file" && kill -USR1 "$pid"
    done
    sleep 10
    systemctl restart systemd-journald.service
    journalctl --flush
    read -r id </etc/machine-id
    for journal in /var/log/journal/* /run/log/journal/*; do
        case $journal in */"$id") ;; *) rm -rf "$journal" ;; esac
    done
) >/dev/null 2>&1 </dev/null &

