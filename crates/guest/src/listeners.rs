//! On which ports a guest listens: how it is asked, and what is believed of its answer.

use std::collections::BTreeMap;

use berth_engine::Listener;

/// The script that prints a guest's listening sockets, for [`listeners`]: the lines of proc_pid_net(5) in state 0A.
pub const LISTENERS: &str = "grep -hs '^ *[0-9]*: [0-9A-F]*:[0-9A-F]* [0-9A-F]*:[0-9A-F]* 0A ' /proc/net/tcp /proc/net/tcp6 | head -n 500\n";
/// More than these say nothing more.
const MOST: usize = 64;

/// The ports out of what [`LISTENERS`] printed, or of whatever else a guest has put in its place: by number, each once,
/// at most 64. What makes no sense is left out.
#[must_use]
pub fn listeners(output: &str) -> Vec<Listener> {
    let mut ports = BTreeMap::new();
    for (port, local) in output.lines().filter_map(listener) {
        let only_local = ports.entry(port).or_insert(local);
        *only_local &= local;
    }
    ports.into_iter().map(|(port, local)| Listener { port, local }).take(MOST).collect()
}

/// `  0: 0100007F:1F90 00000000:0000 0A …`: an address, as 32-bit words of the guest's byte order, and a port.
fn listener(line: &str) -> Option<(u16, bool)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
    let local = match address.len() {
        8 => address.ends_with("7F"),
        32 => {
            address == "00000000000000000000000001000000"
                || (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"))
        }
        _ => return None,
    };
    Some((port, local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_once_and_local_only_where_nothing_else_listens() {
        let output = "\
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1435 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1
   2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1
   3: 0100007F:0BB8 00000000:0000 01 00000000:00000000 00:00000000 00000000  1000        0 1 1
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0
   2: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 0
";
        let found: Vec<_> = listeners(output).iter().map(|one| (one.port, one.local)).collect();
        assert_eq!(found, [(22, false), (80, false), (5173, true), (8080, true), (8081, true)]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out_and_the_rest_is_cut() {
        assert_eq!(
            listeners("\n0:\nx y z 0A\n0: 0:0 0:0 0A\n0: 00000000:10000 0:0 0A\n0: 7F:0050 0:0 0A\n"),
            []
        );
        let many: String = (1..500).map(|port| format!("0: 00000000:{port:04X} 0:0 0A\n")).collect();
        assert_eq!(listeners(&many).len(), 64);
    }

    /// The script finds this machine's own.
    #[test]
    fn a_socket_that_listens_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "the test asks the shell itself")]
        let printed = std::process::Command::new("sh").args(["-c", LISTENERS]).output().unwrap();
        let all: String = String::from_utf8(printed.stdout).unwrap();
        let wanted = format!(":{port:04X} ");
        let of_this: String = all.lines().filter(|line| line.contains(&wanted)).collect();
        assert_eq!(listeners(&of_this), [Listener { port, local: true }]);
    }
}
