//! A client that says whatever a test wants, in whatever order: packets, plain and sealed, and nothing else.

#![expect(clippy::indexing_slicing, reason = "a test that meets what it does not expect stops")]

use std::time::Duration;

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    rand::SystemRandom,
};
use russh::keys::{PrivateKey, signature::Signer as _};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::world::World;

pub(crate) const IGNORE: u8 = 2;
pub(crate) const UNIMPLEMENTED: u8 = 3;
pub(crate) const DEBUG: u8 = 4;
pub(crate) const SERVICE_REQUEST: u8 = 5;
pub(crate) const EXT_INFO: u8 = 7;
pub(crate) const KEXINIT: u8 = 20;
pub(crate) const NEWKEYS: u8 = 21;
pub(crate) const ECDH_INIT: u8 = 30;
pub(crate) const ECDH_REPLY: u8 = 31;
pub(crate) const USERAUTH_REQUEST: u8 = 50;
pub(crate) const USERAUTH_FAILURE: u8 = 51;
pub(crate) const USERAUTH_SUCCESS: u8 = 52;
pub(crate) const USERAUTH_INFO_RESPONSE: u8 = 61;
pub(crate) const GLOBAL_REQUEST: u8 = 80;
pub(crate) const CHANNEL_OPEN: u8 = 90;
pub(crate) const CHANNEL_REQUEST: u8 = 98;

const IDENTIFICATION: &str = "SSH-2.0-Raw";
const SOON: Duration = Duration::from_secs(10);
const TAG: usize = 16;

/// One direction of a sealed connection (RFC 5647).
struct Seal {
    key: LessSafeKey,
    fixed: [u8; 4],
    counter: u64,
}

impl Seal {
    fn new(key: &[u8], iv: &[u8]) -> Self {
        Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap()),
            fixed: iv[..4].try_into().unwrap(),
            counter: u64::from_be_bytes(iv[4..12].try_into().unwrap()),
        }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.fixed);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// See the module.
pub(crate) struct Raw {
    stream: TcpStream,
    server: String,
    seals: Option<(Seal, Seal)>,
    /// The hash of the first exchange.
    pub(crate) session: Vec<u8>,
}

/// A list of bytes with its length before it.
pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A client's list of algorithms, with these of exchanges and of compression.
pub(crate) fn kexinit(exchanges: &str, compression: &str) -> Vec<u8> {
    let gcm = "aes128-gcm@openssh.com";
    let mac = "hmac-sha2-256-etm@openssh.com";
    let lists = [exchanges, "ssh-ed25519", gcm, gcm, mac, mac, compression, compression, "", ""];
    let lists: Vec<u8> = lists.into_iter().flat_map(string).collect();
    [&[KEXINIT][..], &[7; 16], &lists, &[0; 5]].concat()
}

impl Raw {
    /// A connection on which both sides have said who they are.
    pub(crate) async fn connect(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.gateway).await.unwrap();
        stream.write_all(format!("{IDENTIFICATION}\r\n").as_bytes()).await.unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        let server = String::from_utf8(line).unwrap().trim_end().to_owned();
        Self { stream, server, seals: None, session: vec![] }
    }

    /// A connection whose keys are exchanged.
    pub(crate) async fn sealed(world: &World) -> Self {
        let mut raw = Self::connect(world).await;
        raw.exchange().await;
        raw
    }

    /// One on which a log-in may begin.
    pub(crate) async fn at_the_log_in(world: &World) -> Self {
        let mut raw = Self::sealed(world).await;
        raw.send(&[&[SERVICE_REQUEST][..], &string("ssh-userauth")].concat()).await;
        raw
    }

    pub(crate) async fn send(&mut self, payload: &[u8]) {
        let block = 16;
        // The length is not sealed, so it is no part of the blocks.
        let counted = if self.seals.is_some() { 1 } else { 5 } + payload.len();
        let padding = 4 + (2 * block - (counted + 4) % block) % block;
        let length = u32::try_from(1 + payload.len() + padding).unwrap().to_be_bytes();
        let mut rest = [&[u8::try_from(padding).unwrap()][..], payload, &vec![0; padding]].concat();
        if let Some((seal, _)) = &mut self.seals {
            let nonce = seal.nonce();
            let tag = seal.key.seal_in_place_separate_tag(nonce, Aad::from(length), &mut rest).unwrap();
            rest.extend_from_slice(tag.as_ref());
        }
        // It may have been hung up on.
        let _ = self.stream.write_all(&[&length[..], &rest].concat()).await;
    }

    /// What comes next; `None` when the connection ends.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        timeout(SOON, self.read()).await.expect("the gateway neither answers nor hangs up")
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.ok()?;
        let size = u32::from_be_bytes(length) as usize;
        let tag = if self.seals.is_some() { TAG } else { 0 };
        let mut rest = vec![0; size + tag];
        self.stream.read_exact(&mut rest).await.ok()?;
        if let Some((_, seal)) = &mut self.seals {
            let nonce = seal.nonce();
            seal.key.open_in_place(nonce, Aad::from(length), &mut rest).unwrap();
        }
        let padding = usize::from(rest[0]);
        Some(rest[1..size - padding].to_vec())
    }

    /// The kinds of all that comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut kinds = vec![];
        while let Some(packet) = self.next().await {
            kinds.push(packet[0]);
        }
        kinds
    }

    /// What comes next that is an answer to a log-in.
    pub(crate) async fn answer(&mut self) -> Option<u8> {
        loop {
            let kind = self.next().await?[0];
            if kind >= USERAUTH_REQUEST {
                return Some(kind);
            }
        }
    }

    async fn exchange(&mut self) {
        let client_list = kexinit("curve25519-sha256", "none");
        self.send(&client_list).await;
        let server_list = self.next().await.unwrap();
        let own = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let point = own.compute_public_key().unwrap();
        self.send(&[&[ECDH_INIT][..], &string(&point)].concat()).await;
        let reply = self.next().await.unwrap();
        assert_eq!(reply[0], ECDH_REPLY);
        let (host_key, rest) = take_string(&reply[1..]);
        let (server_point, _) = take_string(rest);
        let secret = agree_ephemeral(own, UnparsedPublicKey::new(&X25519, server_point), (), |secret| {
            Ok(mpint(secret))
        })
        .unwrap();
        let hashed =
            [IDENTIFICATION.as_bytes(), self.server.as_bytes(), &client_list, &server_list, host_key];
        let hashed: Vec<u8> =
            hashed.into_iter().chain([point.as_ref(), server_point]).flat_map(string).collect();
        self.session = Sha256::digest([&hashed[..], &secret].concat()).to_vec();
        self.send(&[NEWKEYS]).await;
        assert_eq!(self.next().await.unwrap(), [NEWKEYS]);
        let part =
            |letter: u8| Sha256::digest([&secret[..], &self.session, &[letter], &self.session].concat());
        self.seals = Some((Seal::new(&part(b'C'), &part(b'A')), Seal::new(&part(b'D'), &part(b'B'))));
    }
}

fn take_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let size = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    bytes[4..].split_at(size)
}

fn mpint(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let sign = bytes.first().is_some_and(|byte| *byte >= 0x80);
    string([if sign { &[0][..] } else { &[] }, bytes].concat())
}

/// A try to log in with a key, and what may be wrong with it.
pub(crate) struct Try<'a> {
    pub(crate) user: &'a str,
    pub(crate) service: &'a str,
    pub(crate) algorithm: &'a str,
    /// The key that is shown.
    pub(crate) shown: &'a PrivateKey,
}

impl Try<'_> {
    /// What is sent but for its signature.
    pub(crate) fn request(&self, signed: bool) -> Vec<u8> {
        let key = self.shown.public_key().to_bytes().unwrap();
        let mut request = vec![USERAUTH_REQUEST];
        for text in [self.user, self.service, "publickey"] {
            request.extend(string(text));
        }
        request.push(u8::from(signed));
        request.extend(string(self.algorithm));
        request.extend(string(key));
        request
    }

    /// What a signature is over.
    pub(crate) fn to_be_signed(&self, session: &[u8]) -> Vec<u8> {
        [string(session), self.request(true)].concat()
    }

    /// The request, with a signature of `key` over `text`.
    pub(crate) fn signed(&self, key: &PrivateKey, text: &[u8]) -> Vec<u8> {
        let signature = key.try_sign(text).unwrap();
        let blob = [string(self.algorithm), string(signature.as_bytes())].concat();
        [self.request(true), string(blob)].concat()
    }
}
