//! What is spoken, and how much of it.

use std::{borrow::Cow, time::Duration};

use russh::{
    MethodKind, MethodSet, Preferred, SshId, cipher, kex,
    keys::{Algorithm, Certificate, EcdsaCurve, HashAlg},
    mac,
    server::Config,
};

use crate::{backlog::WINDOW, host_key::HostKey};

/// What this host says first (RFC 4253, 4.2).
pub(crate) const IDENTIFICATION: &str = concat!("SSH-2.0-Berth_", env!("CARGO_PKG_VERSION"));

/// Failed tries to log in beside those with a key: the request without a method with which a client asks for the methods,
/// and the one in which it is told why it was not let in.
const OTHER_TRIES: usize = 2;

/// How long a client may be silent until it is asked whether it is there, and how often in vain. Together as long as
/// TCP itself goes on trying (tcp_retries2), so that a laptop that was closed for some minutes is not cut off.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVES: usize = 15;

/// The cheap ones only, since an exchange costs a stranger nothing: no groups above 4096 bits and none of a client's
/// choosing. Every client of the last ten years has curve25519; group 16 is for those in FIPS mode.
const KEX: &[kex::Name] =
    &[kex::MLKEM768X25519_SHA256, kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731, kex::DH_G16_SHA512];
/// Curves whose constants nobody has explained, and a group of 2048 bits.
const OLD_KEX: &[kex::Name] = &[kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::DH_G14_SHA256];
/// What is said beside them: RFC 8308, and OpenSSH's answer to Terrapin (PROTOCOL, 1.10).
const EXTENSIONS: &[kex::Name] = &[
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Signatures, of the host and of clients (RFC 8308's server-sig-algs): all but ssh-rsa, which is SHA-1.
const SIGNATURES: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
/// Those that are over the text and not over what is sent.
const OLD_MACS: &[mac::Name] = &[mac::HMAC_SHA256, mac::HMAC_SHA512];

/// What russh is told for every connection. `certificate` is a line of a `-cert.pub` file, and is shown to
/// clients that take one. `old` is for clients that know nothing better: see `GatewaySettings::old_algorithms`. So many
/// `tries` with keys may fail.
pub(crate) fn config(host_key: &HostKey, certificate: Option<&str>, old: bool, tries: usize) -> Config {
    let (old_kex, old_macs) = if old { (OLD_KEX, OLD_MACS) } else { (&[][..], &[][..]) };
    let certificate = certificate.and_then(|line| Certificate::from_openssh(line).ok());
    Config {
        server_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: methods(),
        // A second for each key of an agent is what people call slow; guessing keys needs no slowing down.
        auth_rejection_time: Duration::from_millis(10),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: tries.saturating_add(OTHER_TRIES),
        keys: vec![host_key.private_key()],
        certificates: certificate.into_iter().collect(),
        window_size: WINDOW,
        maximum_packet_size: 32 * 1024,
        channel_buffer_size: 32,
        // The less is between a VM and the client, the shorter the round trip.
        event_buffer_size: 1,
        preferred: Preferred {
            kex: Cow::Owned([KEX, old_kex, EXTENSIONS].concat()),
            key: Cow::Borrowed(SIGNATURES),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Owned([MACS, old_macs].concat()),
            ..Preferred::DEFAULT
        },
        // Idle tunnels live on; the login grace is kept by `connection`.
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        ..Config::default()
    }
}

/// Public keys, and the one way to tell a client in words why its keys did not do: see `login`.
pub(super) fn methods() -> MethodSet {
    MethodSet::from(&[MethodKind::PublicKey, MethodKind::KeyboardInteractive][..])
}
