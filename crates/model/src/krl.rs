//! Key revocation lists, as `ssh-keygen -k` writes them (OpenSSH, PROTOCOL.krl).
//!
//! What a file takes back is kept as it stands in it: ranges and bitmaps are never written out one by one, so that the
//! memory of a list is that of its file. What is not understood is an error and never skipped: a list that is half read
//! would let in who was taken out.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::key::{KeyError, PublicKey};

/// The most bytes of a list: some ten thousand keys, or any number of serials in a row.
pub const MAX_KRL: usize = 512 * 1024;

const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT: u32 = 1;

/// Why a file is no list that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KrlError {
    /// It is larger than [`MAX_KRL`].
    #[error("The list is larger than {} KiB.", MAX_KRL / 1024)]
    TooLarge,
    /// It is something else.
    #[error("That is no key revocation list. ssh-keygen -k makes one.")]
    NotAKrl,
    /// It is of another version.
    #[error("The list is of format {0}, and only format 1 is known here.")]
    Format(u32),
    /// It ends in the middle, or its lengths do not fit.
    #[error("The list is cut short or damaged.")]
    Damaged,
    /// It has a part whose meaning is not known.
    #[error(
        "The list has a section of type {0}, which is not known here. Nothing of it was taken, since it may be what matters."
    )]
    UnknownSection(u8),
    /// It has an extension that must be understood.
    #[error("The list has an extension that must be understood and is not known here.")]
    CriticalExtension,
    /// What certificates are named by is none.
    #[error("The list names a certificate where it should name the key of a CA.")]
    CertificateAsCa,
}

/// What has been taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Krl {
    authorities: Vec<OfAuthority>,
    /// Whole keys in their binary form.
    keys: HashSet<Vec<u8>>,
    sha1: HashSet<[u8; 20]>,
    sha256: HashSet<[u8; 32]>,
}

/// Certificates of one CA, or of any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OfAuthority {
    /// In its binary form; empty for any.
    key: Vec<u8>,
    /// First and last, both of which are meant.
    ranges: Vec<(u64, u64)>,
    bitmaps: Vec<Bitmap>,
    key_ids: HashSet<String>,
}

/// Serials from `offset` on, the lowest in the last bit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bitmap {
    offset: u64,
    bytes: Vec<u8>,
}

impl Bitmap {
    fn has(&self, serial: u64) -> bool {
        let Some(bit) = serial.checked_sub(self.offset) else { return false };
        let Ok(byte) = usize::try_from(bit / 8) else { return false };
        let byte = self.bytes.len().checked_sub(1 + byte).and_then(|at| self.bytes.get(at));
        byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
}

/// A certificate of a member, as far as it can be taken back.
#[derive(Debug, Clone, Copy)]
pub struct Certified<'a> {
    /// Whose signature it has.
    pub authority: &'a PublicKey,
    /// The member's key.
    pub key: &'a PublicKey,
    /// Its number; 0 where the CA gives none, which cannot be taken back by number.
    pub serial: u64,
    /// What the CA calls it.
    pub key_id: &'a str,
}

impl Krl {
    /// Reads a file.
    ///
    /// Signatures are not verified: who loads a list has decided to.
    ///
    /// # Errors
    /// See [`KrlError`].
    pub fn read(file: &[u8]) -> Result<Self, KrlError> {
        if file.len() > MAX_KRL {
            return Err(KrlError::TooLarge);
        }
        let mut rest = Reader(file);
        if rest.u64().ok() != Some(MAGIC) {
            return Err(KrlError::NotAKrl);
        }
        match rest.u32()? {
            FORMAT => {}
            format => return Err(KrlError::Format(format)),
        }
        // The list's own version, when it was made, flags, room for later, a comment.
        rest.take(24)?;
        rest.string()?;
        rest.string()?;
        let (mut krl, mut signed) = (Self::default(), false);
        while !rest.is_empty() {
            let (kind, mut section) = (rest.u8()?, Reader(rest.string()?));
            // Signatures come last, and what follows one is not covered by it.
            if signed && kind != 4 {
                return Err(KrlError::Damaged);
            }
            match kind {
                1 => krl.authorities.push(OfAuthority::read(section)?),
                2 => section.each(|rest| Ok(krl.keys.insert(rest.string()?.to_vec())))?,
                3 => section.each(|rest| Ok(krl.sha1.insert(rest.hash()?)))?,
                4 => {
                    // The signature itself follows its section, which holds who signed.
                    rest.string()?;
                    signed = true;
                }
                5 => section.each(|rest| Ok(krl.sha256.insert(rest.hash()?)))?,
                255 => section.extension()?,
                kind => return Err(KrlError::UnknownSection(kind)),
            }
        }
        Ok(krl)
    }

    /// Whether a certificate was taken back: by its number or name, or with its key or that of its CA.
    #[must_use]
    pub fn revokes(&self, certified: Certified<'_>) -> bool {
        let authority = certified.authority.to_blob();
        self.authorities
            .iter()
            .filter(|of| of.key.is_empty() || of.key == authority)
            .any(|of| of.revokes(certified.serial, certified.key_id))
            || self.revokes_key(&certified.key.to_blob())
            || self.revokes_key(&authority)
    }

    fn revokes_key(&self, blob: &[u8]) -> bool {
        self.keys.contains(blob)
            || (!self.sha256.is_empty() && self.sha256.contains(&<[u8; 32]>::from(Sha256::digest(blob))))
            || (!self.sha1.is_empty() && self.sha1.contains(&<[u8; 20]>::from(sha1::Sha1::digest(blob))))
    }

    /// How many CAs it names, with any, and how many keys.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.authorities.len(), self.keys.len() + self.sha1.len() + self.sha256.len())
    }
}

impl OfAuthority {
    fn read(mut section: Reader<'_>) -> Result<Self, KrlError> {
        let key = section.string()?.to_vec();
        if matches!(PublicKey::from_blob(&key), Err(KeyError::Certificate)) {
            return Err(KrlError::CertificateAsCa);
        }
        section.string()?;
        let mut of = Self { key, ranges: vec![], bitmaps: vec![], key_ids: HashSet::new() };
        while !section.is_empty() {
            let (kind, mut part) = (section.u8()?, Reader(section.string()?));
            match kind {
                0x20 => part.each(|rest| {
                    let serial = rest.u64()?;
                    of.ranges.push((serial, serial));
                    Ok(true)
                })?,
                0x21 => {
                    let (first, last) = (part.u64()?, part.u64()?);
                    if first > last || !part.is_empty() {
                        return Err(KrlError::Damaged);
                    }
                    of.ranges.push((first, last));
                }
                0x22 => {
                    let (offset, bytes) = (part.u64()?, part.string()?.to_vec());
                    let bits = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_mul(8);
                    if !part.is_empty() || offset.checked_add(bits).is_none() {
                        return Err(KrlError::Damaged);
                    }
                    of.bitmaps.push(Bitmap { offset, bytes });
                }
                0x23 => part.each(|rest| {
                    let id = std::str::from_utf8(rest.string()?).map_err(|_| KrlError::Damaged)?;
                    Ok(of.key_ids.insert(id.to_owned()))
                })?,
                0x39 => part.extension()?,
                kind => return Err(KrlError::UnknownSection(kind)),
            }
        }
        Ok(of)
    }

    fn revokes(&self, serial: u64, key_id: &str) -> bool {
        let by_serial = || {
            self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&serial))
                || self.bitmaps.iter().any(|bitmap| bitmap.has(serial))
        };
        self.key_ids.contains(key_id) || (serial != 0 && by_serial())
    }
}

/// What is left to be read (RFC 4251, section 5).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], KrlError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(KrlError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KrlError> {
        self.take(N)?.try_into().map_err(|_| KrlError::Damaged)
    }

    fn u8(&mut self) -> Result<u8, KrlError> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, KrlError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, KrlError> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], KrlError> {
        let len = usize::try_from(self.u32()?).map_err(|_| KrlError::Damaged)?;
        self.take(len)
    }

    /// A string of this length.
    fn hash<const N: usize>(&mut self) -> Result<[u8; N], KrlError> {
        self.string()?.try_into().map_err(|_| KrlError::Damaged)
    }

    fn each(&mut self, mut one: impl FnMut(&mut Self) -> Result<bool, KrlError>) -> Result<(), KrlError> {
        while !self.is_empty() {
            one(self)?;
        }
        Ok(())
    }

    /// A name, whether it matters, and what it holds.
    fn extension(&mut self) -> Result<(), KrlError> {
        self.string()?;
        let is_critical = self.u8()? != 0;
        self.string()?;
        match (is_critical, self.is_empty()) {
            (true, _) => Err(KrlError::CriticalExtension),
            (false, true) => Ok(()),
            (false, false) => Err(KrlError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A list with these sections.
    fn list(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut file = b"SSHKRL\n\0\0\0\0\x01".to_vec();
        file.extend([0; 24]);
        file.extend(string(b""));
        file.extend(string(b"a comment"));
        for (kind, data) in sections {
            file.push(*kind);
            file.extend(string(data));
        }
        file
    }

    fn string(data: &[u8]) -> Vec<u8> {
        let len = u32::try_from(data.len()).unwrap();
        [&len.to_be_bytes(), data].concat()
    }

    /// Certificates of any CA.
    fn of_any(parts: &[(u8, Vec<u8>)]) -> (u8, Vec<u8>) {
        let mut data = [string(b""), string(b"")].concat();
        for (kind, part) in parts {
            data.push(*kind);
            data.extend(string(part));
        }
        (1, data)
    }

    fn revokes(file: &[u8], serial: u64, key_id: &str) -> bool {
        Krl::read(file).unwrap().authorities.iter().any(|of| of.revokes(serial, key_id))
    }

    #[test]
    fn serials_and_key_ids_of_any_ca() {
        let bitmap = [100_u64.to_be_bytes().to_vec(), string(&[0b1, 0b1000_0001])].concat();
        let range = [7_u64.to_be_bytes(), 9_u64.to_be_bytes()].concat();
        let ids = [string(b"alice's laptop"), string(b"bob")].concat();
        let file = list(&[of_any(&[
            (0x20, [0_u64.to_be_bytes(), 3_u64.to_be_bytes()].concat()),
            (0x21, range),
            (0x22, bitmap),
            (0x23, ids),
            (0x39, [string(b"hint@example.com"), vec![0], string(b"x")].concat()),
        ])]);
        let revoked: Vec<u64> = (0..200).filter(|serial| revokes(&file, *serial, "")).collect();
        assert_eq!(revoked, [3, 7, 8, 9, 100, 107, 108], "and never a certificate without a number");
        assert!(revokes(&file, 0, "bob") && !revokes(&file, 0, "bo") && !revokes(&file, u64::MAX, ""));
        let all = [u64::MIN.to_be_bytes(), u64::MAX.to_be_bytes()].concat();
        assert!(revokes(&list(&[of_any(&[(0x21, all)])]), u64::MAX, ""));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let critical = [string(b"x"), vec![1], string(b"")].concat();
        let backwards = [9_u64.to_be_bytes(), 7_u64.to_be_bytes()].concat();
        let beyond = [u64::MAX.to_be_bytes().to_vec(), string(&[1])].concat();
        for (file, why) in [
            (b"ssh-ed25519 AAAA".to_vec(), KrlError::NotAKrl),
            (vec![], KrlError::NotAKrl),
            (vec![0; MAX_KRL + 1], KrlError::TooLarge),
            ([&b"SSHKRL\n\0"[..], &[0, 0, 0, 2]].concat(), KrlError::Format(2)),
            (list(&[(9, vec![])]), KrlError::UnknownSection(9)),
            (list(&[of_any(&[(0x24, vec![])])]), KrlError::UnknownSection(0x24)),
            (list(&[(255, critical.clone())]), KrlError::CriticalExtension),
            (list(&[of_any(&[(0x39, critical)])]), KrlError::CriticalExtension),
            (list(&[of_any(&[(0x21, backwards)])]), KrlError::Damaged),
            (list(&[of_any(&[(0x22, beyond)])]), KrlError::Damaged),
            (list(&[(3, string(&[0; 32]))]), KrlError::Damaged),
            (list(&[(2, vec![0xff; 4])]), KrlError::Damaged),
            ([list(&[(4, vec![])]), string(b""), list(&[(2, vec![])])].concat(), KrlError::Damaged),
        ] {
            assert_eq!(Krl::read(&file), Err(why));
        }
        let certificate = string(&[string(b"ssh-ed25519-cert-v01@openssh.com"), string(&[0; 32])].concat());
        let file = list(&[(1, [certificate, string(b"")].concat())]);
        assert_eq!(Krl::read(&file), Err(KrlError::CertificateAsCa));
    }

    #[test]
    fn a_list_that_is_cut_short_is_refused_wherever_that_is() {
        let file = list(&[of_any(&[(0x21, vec![0; 16])]), (5, string(&[7; 32])), (2, string(b"key"))]);
        assert!(Krl::read(&file).is_ok());
        let whole = [list(&[]).len(), list(&[of_any(&[(0x21, vec![0; 16])])]).len()];
        let whole = [whole[0], whole[1], whole[1] + 5 + 36];
        for len in (0..file.len()).filter(|len| !whole.contains(len)) {
            assert!(Krl::read(&file[..len]).is_err(), "{len} of {} bytes", file.len());
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_no_more_than_it_was_given(
            kind in 0_u8..7, data in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = Krl::read(&data);
            let _ = Krl::read(&list(&[(kind, data.clone())]));
            let _ = Krl::read(&list(&[of_any(&[(0x20 + kind, data)])]));
        }
    }
}
