//! Berth's parsers under a fuzzer: everything that meets a stranger's bytes.
//!
//! A target is a function of bytes that panics where something does not hold: that what was read can be written and read
//! again, that two readers agree, that an answer is bounded and harmless. Those of private parsers stand in their crates,
//! behind the feature `fuzzing`. [`TARGETS`] has them all. Each has inputs in `corpus/`, which the tests of this crate run too;
//! the program in `fuzz_targets/` links libFuzzer, and `make fuzz` runs it.

mod names;

/// A target: any bytes have to be harmless to it.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("agent_replies", berth_engine_qemu::shim::fuzzing::agent),
    ("certificates", berth_control::fuzzing::certificates),
    ("configuration", |data| text(data, berth_fuzzing::configuration)),
    ("console", berth_engine_qemu::shim::fuzzing::console),
    ("guest_frames", berth_vnet::fuzzing::guest_frames),
    ("host_names", |data| text(data, names::host_names)),
    ("http_hosts", berth_web::fuzzing::http_hosts),
    ("lobby_keys", berth_gateway::fuzzing::lobby_keys),
    ("lobby_lines", |data| text(data, berth_gateway::fuzzing::lobby_lines)),
    ("nc_words", nc_words),
    ("neighbours", berth_vnet::fuzzing::neighbours),
    ("pasted_keys", |data| text(data, names::pasted_keys)),
    ("qmp_replies", berth_engine_qemu::shim::fuzzing::qmp),
    ("revocation_lists", names::revocation_lists),
    ("shim_lines", berth_engine_qemu::shim::fuzzing::shim_lines),
    ("site_headers", berth_web::fuzzing::site_headers),
    ("terminal_messages", berth_web::fuzzing::terminal_messages),
    ("user_names", |data| text(data, berth_gateway::fuzzing::user_names)),
    ("way_out", berth_engine_qemu::shim::fuzzing::way_out),
];

/// The target of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

fn text(data: &[u8], target: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(data) {
        target(text);
    }
}

/// The command of a tunnel: a shell, had it read an accepted one, would have seen the same host and port.
fn nc_words(command: &[u8]) {
    let Some((host, port)) = berth_gateway::fuzzing::nc_words(command) else { return };
    let shell = std::str::from_utf8(command).ok().and_then(shlex::split).expect("a shell understands it");
    let [.., shell_host, shell_port] = shell.as_slice() else { panic!("{shell:?}") };
    assert_eq!((shell_host, shell_port.parse()), (&host, Ok(port)));
}
