//! What is asked of names, keys and lists in `berth-model`: public functions, from outside.

use berth_model::{
    AccountName, AddressPattern, Certified, Domains, Fingerprint, Krl, PasteError, PublicKey, VmName,
    parse_pasted,
};

/// A host name, as the name of a VM by ssh and of its site.
///
/// # Panics
/// If a name leads to a VM that does not have it, or a name of a VM does not lead back to it.
pub(crate) fn host_names(host: &str) {
    let domains = Domains::new("koding.com", "kd.io", "koding".parse().expect("a name")).expect("domains");
    let lower = host.to_ascii_lowercase();
    let by_ssh = domains.resolve(host);
    if let Some(vm) = &by_ssh {
        assert!(domains.names_of(vm).contains(&lower), "{host:?} is no name of {vm}");
        for name in domains.names_of(vm) {
            assert_eq!(domains.resolve(&name).as_ref(), Some(vm), "{name}");
            assert!(name.len() <= 253 && name.ends_with(".kd.io"), "{name}");
        }
        assert_eq!(vm.to_string().parse::<VmName>().as_ref(), Ok(vm));
    }
    match (domains.resolve_site(host), by_ssh) {
        (Some((vm, port)), by_ssh) => {
            assert!(by_ssh.is_none_or(|other| other == vm && port == 80), "{host:?}");
            assert_eq!(domains.resolve_site(&domains.site(&vm, port)), Some((vm, port)), "{host:?}");
            assert_ne!(port, 0);
        }
        (None, by_ssh) => assert_eq!(by_ssh, None, "{host:?} has no site"),
    }
    if let Ok(name) = host.parse::<AccountName>() {
        let first = domains.resolve(&format!("{name}.kd.io")).expect("an account has a first VM");
        assert_eq!((first.owner.as_str(), first.number.0), (host, 0));
        assert!(!host.starts_with("vm-") && !host.starts_with("shared-"), "{host}");
    }
    // What a domain of an installation may be, nobody has typed but its operator.
    if let Ok(domains) = Domains::new(host, "vm.localhost", "main".parse().expect("a name")) {
        assert_eq!(domains.app_domain(), lower);
        assert!(!domains.is_of_vms(&domains.gateway_host()), "{host:?} overlaps");
    }
}

/// What somebody pastes as their key, beginning with `---- BEGIN` or anything else; and the words that stand in options.
///
/// # Panics
/// If a key that is accepted is not the same key once more in the form in which sshd reads it, or anything of the answer is
/// more than a terminal may show.
pub(crate) fn pasted_keys(text: &str) {
    if let Ok(pattern) = text.parse::<AddressPattern>() {
        assert_eq!(pattern.to_string().parse::<AddressPattern>(), Ok(pattern));
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse::<Fingerprint>(), Ok(fingerprint));
    }
    let found = match parse_pasted(text) {
        Ok(found) => found,
        Err(PasteError::PrivateKey) => return,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control));
            return;
        }
    };
    assert!((1..=100).contains(&found.len()), "{} keys", found.len());
    for judged in found {
        let pasted = match judged {
            Ok(pasted) => pasted,
            Err(error) => {
                let said = error.to_string();
                assert!(said.chars().count() <= 600 && !said.contains(char::is_control), "{said:?}");
                continue;
            }
        };
        assert!(!pasted.comment.contains(char::is_control) && !text.is_empty());
        let bare = pasted.key.to_openssh();
        assert_eq!(PublicKey::from_openssh(&bare).as_ref(), Ok(&pasted.key));
        // The other reader of the same line is the one that the gateway's and the VM's side share.
        let theirs = ssh_key::PublicKey::from_openssh(&bare).expect("a key that is accepted is one");
        assert_eq!(PublicKey::from_ssh_key(&theirs).as_ref(), Ok(&pasted.key));
        let line = format!("{} {bare} {}", pasted.options, pasted.comment);
        let again = parse_pasted(line.trim()).expect("what is written down is read");
        assert_eq!(again, [Ok(pasted)], "{line:?}");
    }
}

/// A key revocation list.
///
/// # Panics
/// If it is taken with a part cut off or added, or takes back a certificate that nothing in it names.
pub(crate) fn revocation_lists(file: &[u8]) {
    let Ok(list) = Krl::read(file) else { return };
    let (authorities, keys) = list.size();
    assert!(
        authorities + keys <= file.len() / 4,
        "{authorities} CAs and {keys} keys in {} bytes",
        file.len()
    );
    assert!(Krl::read(&[file, &[0]].concat()).is_err(), "a list with a byte too much");
    let key = |seed: u8| {
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
        PublicKey::from_ssh_key(ssh_key::PrivateKey::from(pair).public_key()).expect("a key")
    };
    let (authority, key) = (key(1), key(2));
    let revokes =
        |serial, key_id| list.revokes(Certified { authority: &authority, key: &key, serial, key_id });
    let has = |wanted: &[u8]| file.windows(wanted.len()).any(|window| window == wanted);
    if authorities == 0 && keys == 0 {
        assert!(!revokes(7, "alice@laptop") && !revokes(0, ""));
    }
    // 0 is no number, so that only a name or a key can take it back.
    if revokes(0, "alice@laptop") && !has(b"alice@laptop") {
        assert!(keys > 0, "nothing in it names this certificate");
    }
    for serial in [1, 7, u64::MAX] {
        let _revoked = revokes(serial, "alice@laptop");
    }
}
