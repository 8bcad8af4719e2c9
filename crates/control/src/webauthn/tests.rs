use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const VERIFIED: u8 = 0b101;

fn site() -> RelyingParty {
    RelyingParty::of("https://koding.com")
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn client(kind: &str, origin: &str) -> Value {
    json!({ "type": kind, "challenge": "Y2hhbGxlbmdl", "origin": origin, "crossOrigin": false, "extra": 1 })
}

fn data(flags: u8, count: u32) -> Vec<u8> {
    let mut data = digest(&SHA256, b"koding.com").as_ref().to_vec();
    data.push(flags);
    data.extend(count.to_be_bytes());
    data
}

fn data_with(credential: &[u8]) -> Vec<u8> {
    let mut data = data(VERIFIED | 1 << 6, 3);
    data.extend([0; 16]);
    data.extend(u16::try_from(credential.len()).unwrap().to_be_bytes());
    data.extend(credential);
    data.extend(b"\xa1 some CBOR");
    data
}

fn asked(challenge: &str) -> bool {
    challenge == "Y2hhbGxlbmdl"
}

fn new_credential(client: &Value, data: &[u8], key: &[u8], algorithm: i64) -> NewCredential {
    serde_json::from_value(json!({
        "id": b64(b"credential"), "rawId": b64(b"credential"), "type": "public-key",
        "response": {
            "clientDataJSON": b64(client.to_string()), "authenticatorData": b64(data),
            "publicKey": b64(key), "publicKeyAlgorithm": algorithm, "transports": ["internal"],
        },
    }))
    .unwrap()
}

fn assertion(client: &Value, data: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> Assertion {
    let client = client.to_string();
    let signed = [data, digest(&SHA256, client.as_bytes()).as_ref()].concat();
    serde_json::from_value(json!({
        "id": b64(b"credential"),
        "response": {
            "clientDataJSON": b64(&client), "authenticatorData": b64(data), "signature": b64(sign(&signed)),
            "userHandle": null,
        },
    }))
    .unwrap()
}

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn public(&self) -> Vec<u8> {
        self.0.public_key().as_der().unwrap().as_ref().to_vec()
    }

    fn sign(&self, data: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), data).unwrap().as_ref().to_vec()
    }
}

fn verify(assertion: &Assertion, key: &Key) -> Result<u32, PasskeyError> {
    assertion.verify(&site(), -7, &b64(key.public()), asked)
}

#[test]
fn a_site_is_known_by_its_address() {
    let of = |text: &str| {
        let site = RelyingParty::of(text);
        (site.id, site.origin)
    };
    let pair = |id: &str, origin: &str| (id.to_owned(), origin.to_owned());
    assert_eq!(of("https://Koding.com"), pair("koding.com", "https://koding.com"));
    assert_eq!(of("https://koding.com:443/x"), pair("koding.com", "https://koding.com"));
    assert_eq!(of("http://berth.localhost:8080"), pair("berth.localhost", "http://berth.localhost:8080"));
}

#[test]
fn a_new_passkey_is_taken_as_it_is() {
    let key = Key::new();
    let client = client("webauthn.create", "https://koding.com");
    let new = new_credential(&client, &data_with(b"credential"), &key.public(), -7);
    let expected =
        Credential { id: b64(b"credential"), algorithm: -7, public_key: b64(key.public()), sign_count: 3 };
    assert_eq!(new.accept(&site(), asked), Ok(expected));
    assert_eq!(new.accept(&site(), |_| false), Err(PasskeyError::Challenge));
    assert_eq!(new.accept(&RelyingParty::of("https://kd.io"), asked), Err(PasskeyError::OtherSite));
}

#[test]
fn a_new_passkey_that_is_not_right_is_refused_with_the_reason() {
    let (key, good) = (Key::new().public(), client("webauthn.create", "https://koding.com"));
    let refusal = |client: &Value, data: &[u8], key: &[u8], algorithm| {
        new_credential(client, data, key, algorithm).accept(&site(), asked).unwrap_err()
    };
    let with = data_with(b"credential");
    for (client, refused) in [
        (client("webauthn.get", "https://koding.com"), PasskeyError::Malformed),
        (client("webauthn.create", "https://kd.io"), PasskeyError::OtherSite),
        (client("webauthn.create", "http://koding.com"), PasskeyError::OtherSite),
        (client("webauthn.create", "https://koding.com.evil.example"), PasskeyError::OtherSite),
        (
            json!({ "type": "webauthn.create", "challenge": "Y2hhbGxlbmdl", "origin": "https://koding.com", "crossOrigin": true }),
            PasskeyError::OtherSite,
        ),
        (
            json!({ "type": "webauthn.create", "challenge": "x", "origin": "https://koding.com" }),
            PasskeyError::Challenge,
        ),
        (json!([]), PasskeyError::Malformed),
    ] {
        assert_eq!(refusal(&client, &with, &key, -7), refused, "{client}");
    }
    let mut other_site = with.clone();
    other_site[0] ^= 1;
    assert_eq!(refusal(&good, &other_site, &key, -7), PasskeyError::OtherSite);
    for flags in [0b100, 0b001, 0] {
        let mut unverified = with.clone();
        unverified[32] = flags | 1 << 6;
        assert_eq!(refusal(&good, &unverified, &key, -7), PasskeyError::NotVerified);
    }
    assert_eq!(refusal(&good, &data_with(b"another"), &key, -7), PasskeyError::Malformed);
    assert_eq!(refusal(&good, &data(VERIFIED, 3), &key, -7), PasskeyError::Malformed);
    assert_eq!(refusal(&good, &with[..60], &key, -7), PasskeyError::Malformed);
    for algorithm in [-8, -257, -35, 0] {
        assert_eq!(refusal(&good, &with, &key, algorithm), PasskeyError::Algorithm, "{algorithm}");
    }
    assert_eq!(refusal(&good, &with, &key[1..], -7), PasskeyError::Algorithm);
}

#[test]
fn a_signature_of_the_key_lets_in_and_gives_the_count() {
    let (key, client) = (Key::new(), client("webauthn.get", "https://koding.com"));
    let good = assertion(&client, &data(VERIFIED, 42), |data| key.sign(data));
    assert_eq!(verify(&good, &key), Ok(42));
    assert_eq!(verify(&good, &Key::new()), Err(PasskeyError::Signature));
    assert_eq!(good.verify(&site(), -7, &b64(key.public()), |_| false), Err(PasskeyError::Challenge));
    let elsewhere = RelyingParty::of("https://kd.io");
    assert_eq!(good.verify(&elsewhere, -7, &b64(key.public()), asked), Err(PasskeyError::OtherSite));
    let unverified = assertion(&client, &data(0b001, 42), |data| key.sign(data));
    assert_eq!(verify(&unverified, &key), Err(PasskeyError::NotVerified));
    let created = self::client("webauthn.create", "https://koding.com");
    let created = assertion(&created, &data(VERIFIED, 42), |data| key.sign(data));
    assert_eq!(verify(&created, &key), Err(PasskeyError::Malformed), "what made it does not log in");
}

#[test]
fn every_kind_of_key_that_is_asked_for_works() {
    let client = client("webauthn.get", "https://koding.com");
    let data = data(VERIFIED, 0);
    let ed = Ed25519KeyPair::generate().unwrap();
    let signed = assertion(&client, &data, |data| ed.sign(data).as_ref().to_vec());
    let public = ed.public_key().as_der().unwrap();
    assert_eq!(signed.verify(&site(), -8, &b64(public.as_ref()), asked), Ok(0));

    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let sign = |data: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).unwrap();
        signature
    };
    let signed = assertion(&client, &data, sign);
    let public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(rsa.public_key()).unwrap();
    assert_eq!(signed.verify(&site(), -257, &b64(public.as_ref()), asked), Ok(0));
    assert_eq!(ALGORITHMS, [-7, -8, -257]);
}

proptest! {
    /// A single bit that is not as it was signed makes it worthless.
    #[test]
    fn nothing_can_be_changed(field in 0..3usize, at in 0..10_000usize, bit in 0..8u8) {
        let (key, client) = (Key::new(), client("webauthn.get", "https://koding.com"));
        let good = assertion(&client, &data(VERIFIED, 42), |data| key.sign(data));
        let mut bad = good.clone();
        let text = match field {
            0 => &mut bad.response.client_data,
            1 => &mut bad.response.authenticator_data,
            _ => &mut bad.response.signature,
        };
        let mut changed = bytes(text).unwrap();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        *text = b64(changed);
        prop_assert!(verify(&good, &key).is_ok());
        prop_assert!(verify(&bad, &key).is_err());
    }

    #[test]
    fn strangers_bytes_are_refused_and_nothing_worse(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        let key = Key::new();
        let good = client("webauthn.create", "https://koding.com");
        let _ = new_credential(&good, &raw, &key.public(), -7).accept(&site(), asked);
        let mut site_and_more = data_with(b"credential");
        site_and_more.truncate(raw.len());
        let _ = AuthenticatorData::parse(&site_and_more);
        prop_assert!(new_credential(&good, &data_with(b"credential"), &raw, -7).accept(&site(), asked).is_err());
    }
}
