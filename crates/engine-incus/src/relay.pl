# Connects to ADDRESS PORT and carries bytes between that and its own input and output, each direction to its end. Tells on
# its error output, in one byte, whether it could connect: + yes, - nothing listens there, ? anything else.
use strict;
use Socket qw(getaddrinfo SOCK_STREAM SHUT_WR);
$SIG{PIPE} = "IGNORE";
my ($error, $at) = getaddrinfo($ARGV[0], $ARGV[1], { socktype => SOCK_STREAM, flags => 4 });
my $said = "?";
if (!$error && socket(my $peer, $at->{family}, $at->{socktype}, 6)) {
    if (connect $peer, $at->{addr}) {
        syswrite STDERR, "+";
        carry($peer);
        exit 0;
    }
    $said = "-" if $!{ECONNREFUSED};
}
syswrite STDERR, $said;
exit 1;

# pass FROM TO: false at the end of either.
sub pass {
    my ($from, $to) = @_;
    my $count = sysread $from, my $piece, 65536;
    return 0 if !$count;
    my $done = 0;
    while ($done < $count) {
        my $wrote = syswrite $to, $piece, $count - $done, $done;
        return 0 if !defined $wrote;
        $done += $wrote;
    }
    return 1;
}

# A process a direction: neither waits for the other.
sub carry {
    my ($peer) = @_;
    my $child = fork // exit 1;
    if (!$child) {
        1 while pass(\*STDIN, $peer);
        shutdown $peer, SHUT_WR;
        exit 0;
    }
    close STDIN;
    1 while pass($peer, \*STDOUT);
    close STDOUT;
    # What still comes in has nobody to hear it.
    kill "TERM", $child if !defined getpeername $peer;
    waitpid $child, 0;
}
