//! What people paste, as real programs write it.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::{Fingerprint, KeyError, PasteError, PastedKey, PublicKey, parse_pasted};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn file(name: &str) -> String {
    fs::read_to_string(path(name)).expect(name)
}

fn all(text: &str) -> Vec<Result<PastedKey, KeyError>> {
    parse_pasted(text).expect("a paste with keys")
}

#[track_caller]
fn one(text: &str) -> PastedKey {
    let mut found = all(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).expect("a key")
}

#[track_caller]
fn refused(text: &str) -> KeyError {
    let mut found = all(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).expect_err("a refusal")
}

fn ed25519() -> String {
    file("ed25519.pub").trim_end().to_owned()
}

/// The line with its blob replaced.
fn line(word: &str, fields: &[&[u8]]) -> String {
    let blob: Vec<u8> = fields
        .iter()
        .flat_map(|field| [&u32::try_from(field.len()).expect("short").to_be_bytes(), *field].concat())
        .collect();
    format!("{word} {}", STANDARD.encode(blob))
}

#[test]
fn every_type_is_read_as_ssh_keygen_wrote_it() {
    for known in file("fingerprints").lines() {
        let (name, fingerprint) = known.split_once(' ').expect("two words");
        let text = file(&format!("{name}.pub"));
        let pasted = one(&text);
        assert_eq!(pasted.key.fingerprint().to_string(), fingerprint, "{name}");
        assert_eq!(fingerprint.parse::<Fingerprint>(), Ok(pasted.key.fingerprint()));
        assert_eq!(pasted.comment, "alice@laptop");
        assert_eq!(format!("{} alice@laptop\n", pasted.key.to_openssh()), text);
        assert_eq!(PublicKey::from_openssh(&text), Ok(pasted.key.clone()));
        let ssh_key = ssh_key::PublicKey::from_openssh(&text).expect("a key");
        assert_eq!(PublicKey::from_ssh_key(&ssh_key), Ok(pasted.key));
    }
}

#[test]
fn other_formats_give_the_same_key() {
    for (name, formats) in [
        ("ed25519", ["ed25519.rfc4716", "ed25519.putty"]),
        ("rsa-2048", ["rsa-2048.rfc4716", "rsa-2048.putty"]),
        ("ecdsa-521", ["ecdsa-521.rfc4716", "ecdsa-521.putty"]),
    ] {
        let key = one(&file(&format!("{name}.pub"))).key;
        for format in formats {
            let pasted = one(&file(format));
            assert_eq!(pasted.key, key, "{format}");
            assert!(
                pasted.comment.ends_with("alice@laptop") || pasted.comment.contains("alice@laptop"),
                "{format}"
            );
        }
    }
    assert_eq!(one(&file("ed25519.putty")).comment, "alice@laptop");
}

#[test]
fn rfc_4716_headers_may_go_on() {
    let body = "AAAAC3NzaC1lZDI1NTE5AAAAIDZxA3b7bdDVGzBiGfknWZ62GggxmHCybVcl7ro8\nValh\n";
    let text = format!(
        "---- BEGIN SSH2 PUBLIC KEY ----\nSubject: alice\nComment: \"the key: of \\\nalice\"\nx-note: a\\\nb\n{body}\
         ---- END SSH2 PUBLIC KEY ----"
    );
    assert_eq!(one(&text).comment, "the key: of alice");
    assert_eq!(refused(&text.replace("Valh", "Valh\nValh")), KeyError::Damaged);
    assert_eq!(refused(&text.replace("Valh", "")), KeyError::Cut);
}

#[test]
fn what_surrounds_a_key_does_not_matter() {
    let line = ed25519();
    let key = one(&line).key;
    let (word, rest) = line.split_once(' ').expect("a type");
    let (blob, comment) = rest.split_once(' ').expect("a comment");
    for text in [
        format!("\u{feff}{line}\r\n"),
        format!("  \t{line}  \n\n"),
        format!("\"{line}\""),
        format!("'{line}',"),
        format!("“{line}”"),
        format!("`{line}`"),
        format!("# my key\n\n{line}\n# end\n"),
        format!("> {line}"),
        format!("\u{1b}[200~{line}\u{1b}[201~"),
        format!("{word}\u{a0}{blob}\u{2003}{comment}"),
        format!("{word}\n{blob}\n{comment}"),
        format!("{word}\r{blob}\r{comment}"),
        format!("{} {}\n  {}\n  {} {comment}", word, &blob[..30], &blob[30..60], &blob[60..]),
        format!("> {word} {}\n> {}\n> {comment}\n>\n", &blob[..64], &blob[64..]),
        format!("{word} {blob}\n{comment}"),
        format!("{} {blob} {comment}", word.to_uppercase()),
    ] {
        let pasted = one(&text);
        assert_eq!((&pasted.key, pasted.comment.as_str()), (&key, "alice@laptop"), "{text:?}");
    }
    for text in
        [blob.to_owned(), format!("{word} {blob}"), format!("\"{blob}\""), blob.replace("nWZ", "nW\nZ")]
    {
        let pasted = one(&text);
        assert_eq!((&pasted.key, pasted.comment.as_str()), (&key, ""), "{text:?}");
    }
}

#[test]
fn several_keys_are_judged_one_by_one() {
    let names =
        ["ed25519", "rsa-2048", "dsa", "ecdsa-256", "rsa-1024", "ed25519-cert", "sk-ed25519", "ecdsa-384"];
    let text: Vec<String> = names.iter().map(|name| file(&format!("{name}.pub"))).collect();
    let results = all(&format!("# keys\n{}hello world\n{}", text.concat(), file("ed25519.rfc4716")));
    let summary: Vec<_> =
        results.iter().map(|result| result.as_ref().map(|pasted| pasted.key.algorithm())).collect();
    let ok = |name: &str| Ok(name.to_owned());
    assert_eq!(
        summary,
        [
            ok("ssh-ed25519"),
            ok("ssh-rsa"),
            Err(&KeyError::Dsa),
            ok("ecdsa-sha2-nistp256"),
            Err(&KeyError::RsaTooSmall(1024)),
            Err(&KeyError::Certificate),
            ok("sk-ssh-ed25519@openssh.com"),
            ok("ecdsa-sha2-nistp384"),
            Err(&KeyError::NotAKey),
            ok("ssh-ed25519"),
        ]
    );
}

#[test]
fn a_broken_key_does_not_take_its_neighbours_with_it() {
    let good = ed25519();
    let rsa = file("rsa-2048.pub");
    let cut = &rsa[..200];
    for text in
        [format!("{cut}\n{good}\n{rsa}"), format!("{good}\n{cut}\n{rsa}"), format!("{good}\n{rsa}{cut}")]
    {
        let results = all(&text);
        assert_eq!(results.len(), 3, "{results:?}");
        assert_eq!(results.iter().filter(|result| **result == Err(KeyError::Cut)).count(), 1, "{results:?}");
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2, "{results:?}");
    }
}

#[test]
fn the_words_of_a_comment_never_complete_a_cut_key() {
    let line = ed25519();
    let (head, comment) = line.rsplit_once(' ').expect("a comment");
    for lost in 1..40 {
        let cut = &head[..head.len() - lost];
        assert_eq!(refused(&format!("{cut} {comment}")), KeyError::Cut, "{lost}");
        assert_eq!(refused(&format!("{cut} {}", "a".repeat(lost))), KeyError::Cut, "{lost}");
    }
}

#[test]
fn options_are_read_and_others_refused_by_name() {
    let line = ed25519();
    let pasted = one(&format!("from=\"10.0.0.0/8, !10.0.0.1\",expiry-time=\"20301231\" {line}"));
    assert_eq!(pasted.options.to_string(), "from=\"10.0.0.0/8,!10.0.0.1\",expiry-time=\"20301231000000Z\"");
    assert_eq!(pasted.comment, "alice@laptop");
    let wrapped = line.replacen(' ', "\n", 1);
    assert_eq!(one(&format!("from=\"10.0.0.0/8\"\n{wrapped}")).options.from.len(), 1);
    for (options, name) in [
        ("no-pty", "no-pty"),
        ("from=\"10.0.0.1\",command=\"echo \\\"a, b\\\" # ssh-rsa\"", "command"),
        ("restrict", "restrict"),
        ("environment=\"A=B\",no-pty", "environment"),
    ] {
        for gap in [' ', '\n'] {
            let results = all(&format!("{options}{gap}{line}"));
            assert_eq!(results, [Err(KeyError::Option(name.to_owned()))], "{options}{gap:?}");
        }
    }
    assert_eq!(refused(&format!("from=10.0.0.1 {line}")), KeyError::Options);
    assert_eq!(refused(&format!("from=\"example.com\" {line}")), KeyError::From("example.com".to_owned()));
    let results = all(&format!("restricted area\n{line}"));
    assert_eq!(results.len(), 2);
    assert_eq!((results[0].clone().err(), results[1].is_ok()), (Some(KeyError::NotAKey), true));
}

#[test]
fn what_is_no_acceptable_key_is_refused_with_the_reason() {
    let line25519 = ed25519();
    let blob = line25519.split(' ').nth(1).expect("a blob");
    assert_eq!(refused(&file("dsa.pub")), KeyError::Dsa);
    assert_eq!(refused(&file("rsa-1024.pub")), KeyError::RsaTooSmall(1024));
    assert_eq!(refused(&file("ed25519-cert.pub")), KeyError::Certificate);
    assert_eq!(refused(&file("rsa-2048.pem")), KeyError::Pem);
    assert_eq!(
        refused(&format!("ssh-rsa {blob} x")),
        KeyError::TypeMismatch { word: "ssh-rsa".to_owned(), holds: "ssh-ed25519".to_owned() }
    );
    assert_eq!(refused("ssh-ed25519"), KeyError::Cut);
    assert_eq!(refused("ssh-ed25519 AAAA"), KeyError::Cut);
    assert_eq!(refused(&format!("ssh-ed25519 {blob}AAAA alice")), KeyError::Damaged);
    assert_eq!(refused(&format!("ssh-ed25519 {blob}== alice")), KeyError::Damaged);
    assert_eq!(refused(&format!("ssh-ed25519 {blob}.")), KeyError::Damaged);
    assert_eq!(
        refused(&line("ssh-ed448", &[b"ssh-ed448", &[1; 57]])),
        KeyError::UnknownType("ssh-ed448".to_owned())
    );
    assert_eq!(refused("hello"), KeyError::NotAKey);
    assert_eq!(refused("1024 65537 1234567890 alice@laptop"), KeyError::Version1);
    let fingerprint = file("fingerprints");
    let fingerprint =
        fingerprint.lines().next().and_then(|line| line.split(' ').nth(1)).expect("a fingerprint");
    assert_eq!(refused(&format!("256 {fingerprint} alice@laptop (ED25519)")), KeyError::Fingerprint);
}

#[test]
fn keys_that_nobody_can_have_or_everybody_are_refused() {
    let mut one_point = [0; 32];
    one_point[0] = 1;
    for weak in [[0; 32], one_point, [0xff; 32], [2; 32]] {
        let word = "ssh-ed25519";
        assert_eq!(refused(&line(word, &[word.as_bytes(), &weak])), KeyError::Damaged, "{weak:?}");
        let word = "sk-ssh-ed25519@openssh.com";
        assert_eq!(refused(&line(word, &[word.as_bytes(), &weak, b"ssh:"])), KeyError::Damaged, "{weak:?}");
    }
    for (curve, size) in [("nistp256", 64), ("nistp384", 96), ("nistp521", 132)] {
        let word = format!("ecdsa-sha2-{curve}");
        let off_curve = [&[4][..], &vec![1; size]].concat();
        assert_eq!(
            refused(&line(&word, &[word.as_bytes(), curve.as_bytes(), &off_curve])),
            KeyError::Damaged
        );
        let short = [&[2][..], &vec![1; size / 2]].concat();
        assert_eq!(refused(&line(&word, &[word.as_bytes(), curve.as_bytes(), &short])), KeyError::Damaged);
        assert_eq!(refused(&line(&word, &[word.as_bytes(), b"nistp999", &off_curve])), KeyError::Damaged);
    }
    let modulus = |bits: usize| {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        bytes[0] = if bits.is_multiple_of(8) { 0xff } else { (1 << (bits % 8)) - 1 };
        if bytes[0] >= 0x80 { [vec![0], bytes].concat() } else { bytes }
    };
    let rsa = |e: &[u8], n: &[u8]| line("ssh-rsa", &[b"ssh-rsa", e, n]);
    assert!(parse_pasted(&rsa(&[1, 0, 1], &modulus(2048))).expect("a paste")[0].is_ok());
    assert!(parse_pasted(&rsa(&[3], &modulus(8192))).expect("a paste")[0].is_ok());
    assert_eq!(refused(&rsa(&[1, 0, 1], &modulus(2047))), KeyError::RsaTooSmall(2047));
    assert_eq!(refused(&rsa(&[1, 0, 1], &modulus(8193))), KeyError::RsaTooLarge(8193));
    assert_eq!(refused(&rsa(&[1, 0, 1], &modulus(16384))), KeyError::RsaTooLarge(16384));
    let mut even = modulus(2048);
    *even.last_mut().expect("bytes") = 0xfe;
    let padded = [vec![0, 0], modulus(2048)].concat();
    for (e, n) in [
        (&[1][..], modulus(2048)),
        (&[1, 0, 0], modulus(2048)),
        (&[], modulus(2048)),
        (&[0xff], modulus(2048)),
        (&[0, 1, 0, 1], modulus(2048)),
        (&[1; 9], modulus(2048)),
        (&[1, 0, 1], even),
        (&[1, 0, 1], padded),
        (&[1, 0, 1], Vec::new()),
    ] {
        let error = refused(&rsa(e, &n));
        assert!(matches!(error, KeyError::Damaged | KeyError::RsaTooSmall(0)), "{e:?} {error:?}");
    }
}

#[test]
fn private_keys_refuse_the_whole_paste() {
    let mut seen = 0;
    for entry in fs::read_dir(path("throwaway-private")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let key = fs::read_to_string(&path).expect("text");
        let rows: Vec<&str> = key.lines().collect();
        let body = rows.iter().filter(|row| !row.starts_with('-') && !row.contains(':')).copied();
        let body: Vec<&str> = body.collect();
        let mut texts = vec![
            key.clone(),
            format!("{}\n{key}", ed25519()),
            format!("{key}\n{}", ed25519()),
            key.replace('\n', "\r\n"),
            key.replace('\n', " "),
            format!("{}\n", rows.iter().map(|row| format!("> {row}\n")).collect::<String>()),
            rows.iter().map(|row| format!("   {row}\n\n")).collect::<String>(),
            key.replace("--", "—"),
            key.to_lowercase(),
            format!("{{\"key\": \"{}\"}}", key.replace('\n', "\\n")),
            // One end of it was not copied.
            rows[..rows.len() - 1].join("\n"),
            rows[1..].join("\n"),
        ];
        for width in [1, 7, 20, 50] {
            texts.push(wrap(&key, width));
        }
        // Nor was the armour, where what is inside can be told.
        if !path.to_string_lossy().contains("putty") && !key.contains("DEK-Info") {
            texts.push(body.concat());
            texts.push(body.join("\n"));
            texts.push(format!("ssh-rsa {} alice", body.concat()));
        }
        for text in texts {
            assert_eq!(parse_pasted(&text), Err(PasteError::PrivateKey), "{path:?}: {text}");
        }
        seen += 1;
    }
    assert_eq!(seen, 16);
    let error = format!("{:?} {}", PasteError::PrivateKey, PasteError::PrivateKey);
    assert_eq!(
        error,
        "PrivateKey That is a private key. It was not stored. Anyone who has seen it can be you: make a new pair \
         (ssh-keygen -t ed25519) and paste the .pub file."
    );
}

fn wrap(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(width).map(|chunk| chunk.iter().collect::<String>() + "\n").collect()
}

#[test]
fn a_comment_may_speak_of_private_keys() {
    let line = ed25519().replace("alice@laptop", "goes with my friend's private key, begin here");
    assert_eq!(one(&line).comment, "goes with my friend's private key, begin here");
}

#[test]
fn comments_are_safe_to_show() {
    let with = |comment: &str| one(&ed25519().replace("alice@laptop", comment)).comment;
    assert_eq!(with("a\u{1b}]0;owned\u{7}b\u{202e}c\0d"), "a]0;ownedbcd");
    assert_eq!(with(&"x".repeat(1000)).len(), 255);
    assert_eq!(with("Jürgen <script> \"quoted\""), "Jürgen <script> \"quoted\"");
}

#[test]
fn pastes_have_bounds() {
    let line = format!("{}\n", ed25519());
    assert_eq!(all(&line.repeat(100)).len(), 100);
    assert_eq!(parse_pasted(&line.repeat(101)), Err(PasteError::TooMany));
    assert_eq!(parse_pasted(&"a\n\n".repeat(101)), Err(PasteError::TooMany));
    assert_eq!(parse_pasted(&" ".repeat(64 * 1024 + 1)), Err(PasteError::TooLarge));
    for empty in ["", "\n\n", "# nothing", "\u{feff}", "> \n>"] {
        assert_eq!(parse_pasted(empty), Err(PasteError::Empty));
    }
}

#[test]
fn hostile_pastes_are_not_searched_again_for_every_line() {
    let started = std::time::Instant::now();
    for unit in ["A\n", "M\n", "no-pty,\n", "from=\"\\\n"] {
        let text = unit.repeat(64 * 1024 / unit.len() - 100) + &ed25519();
        assert!(parse_pasted(&text).is_ok(), "{unit:?}");
    }
    // Half a second without optimisation; without the index of types it was half a minute.
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}
