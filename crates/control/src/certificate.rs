//! Certificates of members: which count, for whom, and for what.
//!
//! A CA that the operator trusts speaks for whole accounts, so everything that it may have said against a use counts
//! (OpenSSH, PROTOCOL.certkeys): what is not known is refused, and what cannot be found out here is, too.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use berth_model::{AccountName, Certified, KeyOptions, Krl, PublicKey};
use ssh_key::{
    Algorithm, Certificate, HashAlg,
    certificate::{CertType, OptionsMap},
};
use time::OffsetDateTime;

/// The most names in one certificate, as sshd has it.
const MAX_PRINCIPALS: usize = 256;
/// The most of them that are looked up: those that could be accounts.
const MAX_NAMES: usize = 16;
/// The most characters of what a CA calls a certificate that are written down.
const MAX_KEY_ID: usize = 80;

/// A certificate that lets a member in, as far as it stands in the audit trail and can be taken back.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MemberCertificate {
    pub(crate) account: AccountName,
    pub(crate) authority: PublicKey,
    pub(crate) key: PublicKey,
    serial: u64,
    key_id: String,
}

impl MemberCertificate {
    pub(crate) fn is_revoked_by(&self, krl: &Krl) -> bool {
        let Self { authority, key, serial, key_id, .. } = self;
        krl.revokes(Certified { authority, key, serial: *serial, key_id })
    }
}

/// `certificate "alice@laptop", serial 7, of SHA256:…`
impl fmt::Display for MemberCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.key_id, self.serial, &self.authority.fingerprint().to_string()))
    }
}

/// What is said of a certificate that may be anything and of anybody, as of one that counts.
pub(crate) fn claimed(certificate: &Certificate) -> String {
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256).to_string();
    words(certificate.key_id(), certificate.serial(), &authority)
}

fn words(key_id: &str, serial: u64, authority: &str) -> String {
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() && c != '"' { c } else { '?' };
    let key_id: String = key_id.chars().map(plain).take(MAX_KEY_ID).collect();
    format!("certificate \"{key_id}\", serial {serial}, of {authority}")
}

impl fmt::Debug for MemberCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberCertificate({self} for {})", self.account)
    }
}

/// What a client may ask a VM's sshd for, beside commands and shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permits {
    /// A terminal.
    pub pty: bool,
    /// To have its agent forwarded.
    pub agent: bool,
    /// To have ports and sockets forwarded, both ways.
    pub ports: bool,
    /// To have its display forwarded.
    pub x11: bool,
    /// To have `~/.ssh/rc` run.
    pub user_rc: bool,
}

impl Permits {
    /// What a key permits.
    pub const ALL: Self = Self { pty: true, agent: true, ports: true, x11: true, user_rc: true };

    /// What the extensions of a certificate permit. Those that are not known count for nothing.
    fn of(extensions: &OptionsMap) -> Self {
        let has = |name: &str| extensions.contains_key(name);
        Self {
            pty: has("permit-pty"),
            agent: has("permit-agent-forwarding"),
            ports: has("permit-port-forwarding"),
            x11: has("permit-X11-forwarding"),
            user_rc: has("permit-user-rc"),
        }
    }

    /// As the extensions of a certificate.
    pub(crate) fn extensions(self) -> impl Iterator<Item = &'static str> {
        // In the order in which they stand in a certificate.
        let all = [
            (self.x11, "permit-X11-forwarding"),
            (self.agent, "permit-agent-forwarding"),
            (self.ports, "permit-port-forwarding"),
            (self.pty, "permit-pty"),
            (self.user_rc, "permit-user-rc"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, name)| name)
    }
}

/// Why a certificate does not let its holder in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Nobody here trusts who signed it.
    #[error(
        "This certificate is of no CA that is trusted here. Use a key that is on your account, or ask the operator."
    )]
    UnknownAuthority,
    /// It says who a host is.
    #[error("This certificate is for a host, and not for a user.")]
    ForHosts,
    /// It or the key in it proves nothing.
    #[error(
        "This certificate is signed with SHA-1, or it or the key in it is damaged. Have it signed again."
    )]
    Damaged,
    /// Its time has not come.
    #[error("This certificate does not count yet. Check the clock of who signed it.")]
    NotYet,
    /// Its time is over.
    #[error("This certificate is over. Have a new one signed.")]
    Over,
    /// It was taken back.
    #[error("This certificate was revoked. Have a new one signed, for a new key.")]
    Revoked,
    /// It is for nobody, for nobody here, or for several.
    #[error(
        "This certificate has to name one account here, and no more, as its principal. Have it signed again: ssh-keygen -s CA \
         -I ID -n ACCOUNT KEY.pub"
    )]
    NotOneAccount,
    /// It may not be used from there.
    #[error("This certificate may not be used from this address (its source-address).")]
    WrongAddress,
    /// It allows one command alone.
    #[error("This certificate allows one command alone (force-command), and such ones are not taken here.")]
    ForcedCommand,
    /// It asks for what cannot be seen here.
    #[error(
        "This certificate wants its holder verified at each use (verify-required), which cannot be seen here, so such ones are \
         not taken."
    )]
    VerifyRequired,
    /// It asks for something unknown.
    #[error("This certificate has a critical option that is not known here: {0}.")]
    UnknownOption(String),
}

/// What a certificate says that counts.
#[derive(Debug)]
pub(crate) struct Judged {
    authority: PublicKey,
    key: PublicKey,
    serial: u64,
    key_id: String,
    /// Those of its principals that could be accounts.
    pub(crate) names: BTreeSet<AccountName>,
    pub(crate) permits: Permits,
}

impl Judged {
    /// The certificate as that of one of its accounts.
    pub(crate) fn of(self, account: AccountName) -> MemberCertificate {
        let Self { authority, key, serial, key_id, .. } = self;
        MemberCertificate { account, authority, key, serial, key_id }
    }
}

/// Whether a certificate counts that somebody from there has shown and signed with. Whose account it is for, and whether
/// there is one, is for the caller.
pub(crate) fn judge(
    certificate: &Certificate,
    authorities: impl IntoIterator<Item = PublicKey>,
    krl: &Krl,
    from: IpAddr,
    now: OffsetDateTime,
) -> Result<Judged, CertificateError> {
    let key = |data: &ssh_key::public::KeyData| PublicKey::from_ssh_key(&data.clone().into());
    let authority = key(certificate.signature_key()).map_err(|_| CertificateError::UnknownAuthority)?;
    if !authorities.into_iter().any(|trusted| trusted == authority) {
        return Err(CertificateError::UnknownAuthority);
    }
    let sha1 = matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None });
    if sha1 || certificate.verify_signature().is_err() {
        return Err(CertificateError::Damaged);
    }
    if certificate.cert_type() != CertType::User {
        return Err(CertificateError::ForHosts);
    }
    let key = key(certificate.public_key()).map_err(|_| CertificateError::Damaged)?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    if seconds < certificate.valid_after() {
        return Err(CertificateError::NotYet);
    }
    if seconds >= certificate.valid_before() {
        return Err(CertificateError::Over);
    }
    options_permit(certificate.critical_options(), from)?;
    let (serial, key_id) = (certificate.serial(), certificate.key_id().to_owned());
    if krl.revokes(Certified { authority: &authority, key: &key, serial, key_id: &key_id }) {
        return Err(CertificateError::Revoked);
    }
    let principals = certificate.valid_principals();
    let names: BTreeSet<AccountName> = principals.iter().filter_map(|name| name.parse().ok()).collect();
    if principals.len() > MAX_PRINCIPALS || names.is_empty() || names.len() > MAX_NAMES {
        return Err(CertificateError::NotOneAccount);
    }
    Ok(Judged { authority, key, serial, key_id, names, permits: Permits::of(certificate.extensions()) })
}

fn options_permit(options: &OptionsMap, from: IpAddr) -> Result<(), CertificateError> {
    for (name, value) in options.iter() {
        match name.as_str() {
            "source-address" => permits_address(value, from)?,
            "force-command" => return Err(CertificateError::ForcedCommand),
            "verify-required" => return Err(CertificateError::VerifyRequired),
            _ => {
                let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
                return Err(CertificateError::UnknownOption(
                    name.chars().map(plain).take(MAX_KEY_ID).collect(),
                ));
            }
        }
    }
    Ok(())
}

/// A list of addresses and networks, without patterns and without exceptions (sshd's addr_match_cidr_list). A list with
/// anything else in it permits nothing.
fn permits_address(list: &str, from: IpAddr) -> Result<(), CertificateError> {
    let refused = || CertificateError::WrongAddress;
    let networks = list.split(',').map(|network| {
        let is_network = !network.contains(['*', '?', '!']);
        is_network.then(|| network.parse().ok()).flatten().ok_or_else(refused)
    });
    let options = KeyOptions { from: networks.collect::<Result<_, _>>()?, ..KeyOptions::default() };
    options.permits(from, OffsetDateTime::UNIX_EPOCH).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use ssh_key::{PrivateKey, certificate::Builder};
    use time::Duration;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    struct Signed {
        ca: PrivateKey,
        krl: Krl,
        now: OffsetDateTime,
    }

    fn key() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    fn public(key: &PrivateKey) -> PublicKey {
        PublicKey::from_ssh_key(key.public_key()).unwrap()
    }

    impl Signed {
        fn new() -> Self {
            Self { ca: key(), krl: Krl::default(), now: OffsetDateTime::UNIX_EPOCH + Duration::days(20_000) }
        }

        /// What becomes of a certificate for alice and ten minutes that is changed so before it is signed.
        fn judge(&self, change: impl FnOnce(&mut Builder)) -> Result<Judged, CertificateError> {
            let now = u64::try_from(self.now.unix_timestamp()).unwrap();
            let subject = key();
            let data = subject.public_key().key_data().clone();
            let mut new =
                Builder::new_with_random_nonce(&mut rand::rng(), data, now - 300, now + 300).unwrap();
            new.serial(7).unwrap().key_id("alice@laptop").unwrap();
            change(&mut new);
            let certificate = new.sign(&self.ca).unwrap();
            self.judge_this(&certificate)
        }

        fn judge_this(&self, certificate: &Certificate) -> Result<Judged, CertificateError> {
            judge(certificate, [public(&self.ca)], &self.krl, HOME, self.now)
        }

        fn refused(&self, change: impl FnOnce(&mut Builder)) -> CertificateError {
            self.judge(change).unwrap_err()
        }
    }

    fn alice(new: &mut Builder) {
        new.valid_principal("alice").unwrap();
    }

    #[test]
    fn one_for_an_account_counts_and_says_what_it_permits() {
        let signed = Signed::new();
        let judged = signed
            .judge(|new| {
                alice(new);
                new.valid_principal("not a name").unwrap();
                new.extension("permit-pty", "").unwrap();
                new.extension("permit-port-forwarding", "").unwrap();
                new.extension("unknown@example.com", "x").unwrap();
            })
            .unwrap();
        assert_eq!(judged.names, ["alice".parse().unwrap()].into());
        let extensions: Vec<_> = judged.permits.extensions().collect();
        assert_eq!(extensions, ["permit-port-forwarding", "permit-pty"]);
        let certificate = judged.of("alice".parse().unwrap());
        let ca = public(&signed.ca).fingerprint();
        assert_eq!(certificate.to_string(), format!("certificate \"alice@laptop\", serial 7, of {ca}"));
        assert_eq!(Permits::ALL.extensions().count(), 5);
    }

    #[test]
    fn what_is_wrong_with_one_is_its_end() {
        let mut signed = Signed::new();
        let all = |new: &mut Builder| {
            new.all_principals_valid().unwrap();
        };
        assert_eq!(
            signed.refused(all),
            CertificateError::NotOneAccount,
            "without principals it is for nobody"
        );
        let nobody = |new: &mut Builder| {
            new.valid_principal("ALICE").unwrap().valid_principal("root").unwrap();
        };
        assert_eq!(signed.refused(nobody), CertificateError::NotOneAccount);
        for name in ["", ",", "alice,bob", "alice,", "alice ", "alice\0", "*", "al?ce"] {
            let named = |new: &mut Builder| {
                new.valid_principal(name).unwrap();
            };
            assert_eq!(signed.refused(named), CertificateError::NotOneAccount, "{name:?}");
        }
        let host = |new: &mut Builder| {
            alice(new);
            new.cert_type(CertType::Host).unwrap();
        };
        assert_eq!(signed.refused(host), CertificateError::ForHosts);
        for (name, value, why) in [
            ("force-command", "true", CertificateError::ForcedCommand),
            ("verify-required", "", CertificateError::VerifyRequired),
            ("x\u{1b}@example.com", "", CertificateError::UnknownOption("x?@example.com".into())),
            ("source-address", "192.0.2.8/32", CertificateError::WrongAddress),
            ("source-address", "192.0.2.7,nonsense", CertificateError::WrongAddress),
            ("source-address", "192.0.2.*", CertificateError::WrongAddress),
            ("source-address", "!192.0.2.8,192.0.2.0/24", CertificateError::WrongAddress),
            ("source-address", "", CertificateError::WrongAddress),
        ] {
            let with = |new: &mut Builder| {
                alice(new);
                new.critical_option(name, value).unwrap();
            };
            assert_eq!(signed.refused(with), why, "{name}={value}");
        }
        for list in ["192.0.2.0/24", "2001:db8::/32,192.0.2.7"] {
            let with = |new: &mut Builder| {
                alice(new);
                new.critical_option("source-address", list).unwrap();
            };
            assert!(signed.judge(with).is_ok(), "{list}");
        }
        signed.now += Duration::seconds(300);
        let before = signed.now;
        let certificate = {
            let now = u64::try_from(before.unix_timestamp()).unwrap();
            let data = key().public_key().key_data().clone();
            let mut new = Builder::new_with_random_nonce(&mut rand::rng(), data, now, now + 1).unwrap();
            alice(&mut new);
            new.sign(&signed.ca).unwrap()
        };
        assert!(signed.judge_this(&certificate).is_ok());
        signed.now = before - Duration::seconds(1);
        assert_eq!(signed.judge_this(&certificate).unwrap_err(), CertificateError::NotYet);
        signed.now = before + Duration::seconds(1);
        assert_eq!(signed.judge_this(&certificate).unwrap_err(), CertificateError::Over);
        signed.ca = key();
        assert_eq!(signed.judge_this(&certificate).unwrap_err(), CertificateError::UnknownAuthority);
    }

    #[test]
    fn a_signature_that_is_not_the_cas_is_none() {
        let signed = Signed::new();
        let data = key().public_key().key_data().clone();
        let mut new = Builder::new_with_random_nonce(&mut rand::rng(), data, 0, u64::MAX).unwrap();
        alice(&mut new);
        let certificate = new.sign(&signed.ca).unwrap();
        assert!(signed.judge_this(&certificate).is_ok(), "for ever");
        let mut bytes = certificate.to_bytes().unwrap();
        let at = bytes.windows(5).position(|window| window == b"alice").unwrap();
        bytes[at] = b'b';
        let forged = Certificate::from_bytes(&bytes).unwrap();
        assert_eq!(signed.judge_this(&forged).unwrap_err(), CertificateError::Damaged);
    }
}
