//! Members who come with a certificate of a CA that the operator trusts.

use std::time::Duration;

use berth_control::{Actor, AuditInfo, AuditKind, AuditQuery, Error, WebError};
use berth_model::KrlError;
use berth_testkit::Output;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Child,
    time::timeout,
};

use crate::{
    direct::sshd_of,
    world::{ECHO, VM, World, account, eventually},
};

const SOON: Duration = Duration::from_secs(20);
const REVOKED: &str = "This certificate was revoked.";

/// The world, with a CA in `ca` that is trusted and a key in `member` that is on no account. `ssh certified` comes with
/// that key, and its certificate where there is one.
struct Certified {
    world: World,
}

impl Certified {
    async fn new() -> Self {
        Self::of(&["-t", "ed25519"], &["-t", "ed25519"]).await
    }

    /// With keys of these types.
    async fn of(ca: &[&str], member: &[&str]) -> Self {
        let world = World::awake().await;
        let ca = world.ssh.new_key("ca", ca).await;
        world.ssh.new_key("member", member).await;
        world.control.acting(Actor::host()).add_team_ca(&ca, Some("office")).await.unwrap();
        let (port, file) = (world.gateway.port(), world.ssh.file("member"));
        world.ssh.add_config(&format!(
            "Host certified\n  HostName 127.0.0.1\n  HostKeyAlias gateway\n  Port {port}\n  User alice\n  IdentityFile {}\n",
            file.display()
        ));
        Self { world }
    }

    async fn keygen(&self, args: &[&str]) {
        let done = self.world.ssh.run("ssh-keygen", args, b"").await;
        assert_eq!(done.status, Some(0), "{args:?}: {}", done.stderr);
    }

    /// A certificate of `ca` for `member`, of serial 7.
    async fn sign(&self, args: &[&str]) {
        let always = ["-q", "-s", "ca", "-I", "alice@laptop", "-z", "7"];
        self.keygen(&[&always, args, &["member.pub"]].concat()).await;
    }

    async fn ssh(&self, command: &[&str]) -> Output {
        self.world.ssh(&[&["certified"], command].concat(), b"").await
    }

    /// A tunnel that is open, by `host`.
    async fn tunnel(&self, host: &str) -> Child {
        let mut client = self.world.ssh.start("ssh", &[host, "nc", VM, ECHO]);
        client.stdin.as_mut().unwrap().write_all(b"here").await.unwrap();
        let mut heard = [0; 4];
        timeout(SOON, client.stdout.as_mut().unwrap().read_exact(&mut heard)).await.unwrap().unwrap();
        client
    }

    async fn lines(&self, kind: AuditKind) -> Vec<AuditInfo> {
        let query = AuditQuery { kind: Some(kind), ..AuditQuery::default() };
        self.world.control.acting(Actor::host()).audit(&query).await.unwrap()
    }

    /// Waits for a line that begins so.
    async fn wait_for(&self, kind: AuditKind, detail: &str) {
        for _ in 0..1000 {
            if self.lines(kind).await.iter().any(|line| line.detail.starts_with(detail)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there is no line of {kind} with {detail}");
    }

    /// A list that ssh-keygen makes of this, loaded.
    async fn revoke(&self, spec: &str) -> Vec<u8> {
        std::fs::write(self.world.ssh.file("spec"), spec).unwrap();
        self.keygen(&["-q", "-k", "-f", "krl", "-s", "ca.pub", "spec"]).await;
        let krl = std::fs::read(self.world.ssh.file("krl")).unwrap();
        self.world.control.acting(Actor::host()).load_team_krl(&krl).await.unwrap();
        krl
    }
}

async fn ends(mut client: Child) {
    let ended = timeout(SOON, client.wait()).await.unwrap().unwrap();
    assert!(!ended.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lets_its_account_in_by_every_way() {
    for (ca, member) in [
        (&["-t", "ed25519"][..], &["-t", "ed25519"][..]),
        (&["-t", "rsa", "-b", "2048"], &["-t", "ecdsa"]),
        (&["-t", "ecdsa", "-b", "521"], &["-t", "rsa", "-b", "2048"]),
    ] {
        let certified = Certified::of(ca, member).await;
        let sshd = sshd_of(&certified.world).await;
        let refused = certified.ssh(&["vms"]).await;
        assert!(refused.stderr.contains("This key is not on any account here."), "{refused:?}");
        certified.sign(&["-n", "admins,alice", "-V", "-1m:+1h"]).await;
        let done = certified.ssh(&["vms"]).await;
        assert!(done.status == Some(0) && done.stdout.starts_with(b"vm-0\trunning"), "{member:?}: {done:?}");
        // The user name says where to go, and not who it is.
        let done = certified.ssh(&["-l", "vm-0", "some command"]).await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
        assert!(sshd.seen().iter().any(|seen| seen == "log-in alice"), "{:?}", sshd.seen());
        let done = certified.ssh(&["-l", "bob", "nc", "vm-0.bob.kd.io", "22"]).await;
        assert_eq!(done.status, Some(68), "{done:?}");
        let mut tunnel = certified.tunnel("certified").await;
        drop(tunnel.stdin.take());
        tunnel.wait().await.unwrap();

        let shown = "certificate \"alice@laptop\", serial 7, of SHA256:";
        let logged_in = certified.lines(AuditKind::LogIn).await;
        let line = logged_in.iter().find(|line| line.detail.starts_with(shown)).unwrap();
        assert_eq!((line.account.clone(), line.way.as_str()), (Some(account("alice")), "ssh"));
        certified.wait_for(AuditKind::Connection, &format!("port {ECHO} by {shown}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_is_said_and_lets_nobody_in() {
    let certified = Certified::new().await;
    let out_of_time = "If you came with a certificate, its time is over or has not come.";
    let not_one = "This certificate has to name one account here, and no more, as its principal.";
    for (args, said) in [
        (&["-n", "alice", "-V", "-2h:-1h"][..], out_of_time),
        (&["-n", "alice", "-V", "+1h:+2h"], out_of_time),
        (&[], not_one),
        (&["-n", "nobody-here"], not_one),
        (&["-n", "alice,bob"], not_one),
        (&["-n", "Alice"], not_one),
        (&["-n", "alice", "-O", "force-command=true"], "(force-command), and such ones are not taken here."),
        (&["-n", "alice", "-O", "verify-required"], "(verify-required), which cannot be seen here"),
        (&["-n", "alice", "-O", "critical:x@example.com=y"], "that is not known here: x@example.com."),
        (&["-n", "alice", "-O", "source-address=192.0.2.0/24"], "from this address (its source-address)."),
    ] {
        certified.sign(args).await;
        let refused = certified.ssh(&["vms"]).await;
        assert!(refused.status == Some(255) && refused.stderr.contains(said), "{args:?}: {refused:?}");
    }
    certified.sign(&["-n", "alice", "-O", "source-address=192.0.2.0/24,127.0.0.0/8"]).await;
    assert_eq!(certified.ssh(&["vms"]).await.status, Some(0));
    // Somebody else's CA, and a certificate that claims to be one.
    certified.world.ssh.new_key("stranger", &["-t", "ed25519"]).await;
    certified.keygen(&["-q", "-s", "stranger", "-I", "x", "-n", "alice", "member.pub"]).await;
    let refused = certified.ssh(&["vms"]).await;
    assert!(refused.stderr.contains("This certificate is of no CA that is trusted here."), "{refused:?}");
    let trail = certified.lines(AuditKind::LogInRefused).await;
    assert!(
        trail.iter().any(|line| line.detail.starts_with("certificate \"x\", serial 0, of SHA256:")
            && line.detail.contains(": This certificate is of no CA that is trusted here.")),
        "{trail:?}"
    );
    assert!(
        trail.iter().any(|line| line.detail.contains(": This certificate allows one command alone")),
        "{trail:?}"
    );
    let host = certified.world.control.acting(Actor::host());
    let certificate = std::fs::read_to_string(certified.world.ssh.file("member-cert.pub")).unwrap();
    assert!(matches!(host.add_team_ca(&certificate, None).await, Err(WebError::Other(Error::NoTeamCa(_)))));
    let private = std::fs::read_to_string(certified.world.ssh.file("ca")).unwrap();
    assert!(matches!(host.add_team_ca(&private, None).await, Err(WebError::Other(Error::Paste(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_reason_is_kept_when_the_key_in_it_is_tried_for_itself() {
    let certified = Certified::new().await;
    // ssh begins with a certificate that is named so, and goes on with the plain key.
    let named = format!("CertificateFile={}", certified.world.ssh.file("member-cert.pub").display());
    let log_in = async || {
        let refused = certified.ssh(&["-o", &named, "vms"]).await;
        assert_eq!(refused.status, Some(255), "{refused:?}");
        refused.stderr
    };
    let guess = "If you came with a certificate";
    let unknown = "This key is not on any account here";
    for (args, said) in [
        (&["-n", "nobody-here"][..], "This certificate has to name one account here"),
        (&["-n", "alice", "-O", "force-command=true"], "This certificate allows one command alone"),
        (&["-n", "alice", "-O", "source-address=192.0.2.0/24"], "(its source-address)."),
    ] {
        certified.sign(args).await;
        let told = log_in().await;
        assert!(told.contains(said) && !told.contains(guess) && !told.contains(unknown), "{args:?}: {told}");
    }
    certified.sign(&["-n", "alice"]).await;
    certified.revoke("serial: 7").await;
    let told = log_in().await;
    assert!(told.contains(REVOKED) && !told.contains(guess) && !told.contains(unknown), "{told}");
    certified.world.ssh.new_key("stranger", &["-t", "ed25519"]).await;
    certified.keygen(&["-q", "-s", "stranger", "-I", "x", "-n", "alice", "member.pub"]).await;
    let told = log_in().await;
    assert!(told.contains("of no CA that is trusted here") && !told.contains(guess), "{told}");
    // Of one that is out of its time the key alone is seen here.
    certified.sign(&["-n", "alice", "-V", "-2h:-1h"]).await;
    let told = log_in().await;
    assert!(told.contains(unknown) && told.contains(guess), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sha1_proves_nothing_neither_a_cas_nor_a_members() {
    let certified = Certified::of(&["-t", "rsa", "-b", "2048"], &["-t", "rsa", "-b", "2048"]).await;
    certified.sign(&["-t", "ssh-rsa", "-n", "alice"]).await;
    let refused = certified.ssh(&["vms"]).await;
    assert_eq!(refused.status, Some(255), "{refused:?}");
    certified.sign(&["-n", "alice"]).await;
    let sha1 = ["-o", "PubkeyAcceptedAlgorithms=ssh-rsa-cert-v01@openssh.com", "vms"];
    let refused = certified.ssh(&sha1).await;
    assert_eq!(refused.status, Some(255), "{refused:?}");
    assert_eq!(certified.ssh(&["vms"]).await.status, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_not_permit_is_refused_here_and_in_the_vm() {
    let certified = Certified::new().await;
    let sshd = sshd_of(&certified.world).await;
    certified.sign(&["-n", "alice", "-O", "clear", "-O", "permit-agent-forwarding"]).await;
    let done = certified.ssh(&["nc", VM, ECHO]).await;
    assert_eq!(
        (done.status, done.stderr.as_str()),
        (Some(77), "Your certificate lets you in on port 22 alone: it has no permit-port-forwarding.\n")
    );
    let done = certified.ssh(&["-o", "LogLevel=INFO", "-tt", "vms"]).await;
    assert!(done.stderr.contains("PTY allocation request failed"), "{done:?}");
    certified.ssh(&["-l", "vm-0", "some command"]).await;
    // What the VM's sshd makes of it is its own; it is told by the certificate that the gateway comes with.
    assert!(sshd.seen().iter().any(|seen| seen == "permits permit-agent-forwarding"), "{:?}", sshd.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_is_not_for_who_may_less() {
    let certified = Certified::new().await;
    let sshd = sshd_of(&certified.world).await;
    certified.sign(&["-n", "alice", "-O", "clear", "-O", "permit-agent-forwarding"]).await;
    // Made after a client that may everything.
    let done = certified.world.ssh(&["-l", "vm-0", "gateway", "one"], b"exit").await;
    assert_eq!(done.status, Some(7), "{done:?}");
    let world = &certified.world;
    let open = || (world.control.connections("", 9).1, world.engine.connections());
    let log_ins = || sshd.seen().iter().filter(|seen| *seen == "log-in alice").count();
    eventually("a connection waits", || open() == (0, 1) && log_ins() > 1).await;
    certified.ssh(&["-l", "vm-0", "two"]).await;
    let seen = sshd.seen();
    let until = seen.iter().position(|seen| seen == "exec two").unwrap();
    // It has one of its own, beside which others may be made again for those who may everything.
    assert!(seen[..until].iter().any(|seen| seen == "permits permit-agent-forwarding"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_removed_ends_what_it_let_in_and_nothing_else() {
    let certified = Certified::new().await;
    certified.sign(&["-n", "alice"]).await;
    let (ended, mut stays) = (certified.tunnel("certified").await, certified.tunnel("gateway").await);
    let keys = certified.world.engine.authorized_keys(&certified.world.vm_id().await).unwrap();
    assert!(keys.contains("\ncert-authority,principals=\"alice\" ssh-ed25519 "), "{keys}");
    let host = certified.world.control.acting(Actor::host());
    assert!(host.remove_team_ca("nothing").await.is_err());
    let left = host.remove_team_ca("office").await.unwrap();
    assert_eq!(left.cas, []);
    ends(ended).await;
    stays.stdin.as_mut().unwrap().write_all(b"still").await.unwrap();
    stays.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).await.unwrap();
    stays.start_kill().unwrap();
    let refused = certified.ssh(&["vms"]).await;
    assert!(refused.stderr.contains("This key is not on any account here."), "{refused:?}");
    let (engine, id) = (certified.world.engine.clone(), certified.world.vm_id().await);
    eventually("the guest forgets it", || !engine.authorized_keys(&id).unwrap().contains("\"alice\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ssh_keygen_revokes_is_out_at_once_and_stays_out() {
    let certified = Certified::new().await;
    certified.sign(&["-n", "alice"]).await;
    let key = std::fs::read_to_string(certified.world.ssh.file("member.pub")).unwrap();
    let fingerprint = {
        let key = berth_model::PublicKey::from_openssh(key.trim()).unwrap();
        key.fingerprint().to_string()
    };
    let others = ["serial: 8", "serial: 1-6\nserial: 9-400\nid: somebody", "serial: 70"];
    for (revoked, other) in [
        ("serial: 7", others[0]),
        ("serial: 1-300\nserial: 305\nserial: 307", others[1]),
        ("id: alice@laptop", others[2]),
        (&format!("key: {key}"), "id: alice"),
        (&format!("sha1: {key}"), "id: alice"),
        (&format!("sha256: {key}"), "id: alice"),
        (&format!("hash: {fingerprint}"), "id: alice"),
    ] {
        certified.revoke(other).await;
        let client = certified.tunnel("certified").await;
        certified.revoke(revoked).await;
        ends(client).await;
        let refused = certified.ssh(&["vms"]).await;
        assert!(refused.stderr.contains(REVOKED), "{revoked}: {refused:?}");
    }
    // What cannot be used changes nothing.
    let krl = certified.revoke("serial: 7").await;
    let host = certified.world.control.acting(Actor::host());
    for file in [&krl[..krl.len() - 1], b"", &vec![b'x'; 600 * 1024], key.as_bytes()] {
        let refused = host.load_team_krl(file).await;
        assert!(
            matches!(
                refused,
                Err(WebError::Other(Error::Krl(KrlError::Damaged | KrlError::NotAKrl | KrlError::TooLarge)))
            ),
            "{refused:?}"
        );
    }
    assert!(certified.ssh(&["vms"]).await.stderr.contains(REVOKED));
    let about = certified.lines(AuditKind::TeamCa).await;
    assert!(about.iter().any(|line| line.detail.starts_with("revocations loaded: 1 parts about CAs")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_the_account_ends_it_too() {
    let certified = Certified::new().await;
    certified.sign(&["-n", "alice"]).await;
    let client = certified.tunnel("certified").await;
    certified.world.control.acting(Actor::host()).block_account(&account("alice")).await.unwrap();
    ends(client).await;
    let refused = certified.ssh(&["vms"]).await;
    assert!(refused.stderr.contains("has to name one account here"), "{refused:?}");
}
