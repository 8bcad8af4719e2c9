//! `berth check-config`

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use berth_engine_qemu::landlock_is_missing;
use berth_web::tls::{CertificateFiles, look_at};
use serde_json::json;

use super::Context;
use crate::{
    admin::wire::{Failure, FailureKind},
    config::{Config, Problem},
    state::StateDir,
};

/// What a path in a unix socket's address can be at most, without the NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// The longest name of a socket that is made below the state folder.
const LONGEST_SOCKET: &str = "run/0123456789abcdef.sock";

const MEMORY_DIR: &str = "host.memory_dir";

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let config = context.unjudged_config()?;
    let mut problems = config.problems();
    problems.extend(machine_problems(&config));
    let value = json!({ "file": context.overrides.file, "config": config, "problems": problems });
    context.output.result(&value, &in_force(context, &config)?)?;
    if !config.engine.is_a_cluster() && landlock_is_missing() {
        context.output.note("This kernel has no Landlock: QEMU is shut off from files by their modes alone.");
    }
    if problems.is_empty() {
        context.output.note("Nothing is wrong with it.");
        return Ok(());
    }
    for Problem { key, message } in &problems {
        context.output.note(&format!("{key}: {message}"));
    }
    Err(Failure::already_told())
}

fn in_force(context: &Context<'_>, config: &Config) -> Result<String, Failure> {
    let source = match &context.overrides.file {
        Some(file) => format!("# In force: {} over the defaults.", file.display()),
        None => "# In force: the defaults. A file is given with --config FILE.".to_owned(),
    };
    let text = toml::to_string(config).map_err(|error| {
        Failure::new(FailureKind::Unavailable, format!("The configuration cannot be printed: {error}."))
    })?;
    Ok(format!("{source}\n{}", text.trim_end()))
}

/// What would keep a server with this configuration from starting here.
fn machine_problems(config: &Config) -> Vec<Problem> {
    let mut problems = vec![];
    problems.extend(socket_problem(&config.state_dir));
    problems.extend(writable_problem("state_dir", &config.state_dir));
    // Images may be somebody else's, to read.
    if !config.image_dir.is_dir() {
        problems.extend(writable_problem("image_dir", &config.image_dir));
    } else if std::fs::read_dir(&config.image_dir).is_err() {
        let message = format!("{} cannot be read. Choose another folder.", config.image_dir.display());
        problems.push(Problem::new("image_dir", message));
    }
    if !config.engine.is_a_cluster() {
        problems.extend(writable_problem(MEMORY_DIR, &config.host.memory_dir));
        problems.extend(memory_problem(config));
    }
    problems.extend(config.http.tls.files().iter().filter_map(|files| certificate_problem(config, files)));
    // A server that runs has the addresses itself.
    if StateDir::at(&config.state_dir).running().is_none() {
        problems
            .extend(config.ssh.listen.iter().filter_map(|address| listen_problem("ssh.listen", *address)));
        problems
            .extend(config.http.listen.iter().filter_map(|address| listen_problem("http.listen", *address)));
        let secure = config.http.tls.listen.iter();
        problems.extend(secure.filter_map(|address| listen_problem("http.tls.listen", *address)));
    }
    problems
}

/// What cannot be served, or nobody would come for.
fn certificate_problem(config: &Config, files: &CertificateFiles) -> Option<Problem> {
    const KEY: &str = "http.tls.certificates";
    let names = match look_at(files) {
        Ok(names) => names,
        Err(error) => return Some(Problem::new(KEY, error.to_string())),
    };
    let ours = |name: &String| {
        let name = name.trim_start_matches("*.");
        [&config.app_domain, &config.vm_domain].iter().any(|domain| {
            name == domain.as_str()
                || name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
        })
    };
    (!names.iter().any(ours)).then(|| {
        let message = format!(
            "{} is for {}, and not for {} or a name below {}. Give another one.",
            files.certificate.display(),
            names.join(", "),
            config.app_domain,
            config.vm_domain
        );
        Problem::new(KEY, message)
    })
}

fn socket_problem(state: &Path) -> Option<Problem> {
    let length = state.join(LONGEST_SOCKET).as_os_str().len();
    (length > MAX_SOCKET_PATH).then(|| {
        let message = format!(
            "The path is too long: sockets below it may have {MAX_SOCKET_PATH} bytes and would have {length}. Choose \
             a shorter one."
        );
        Problem::new("state_dir", message)
    })
}

/// A tmpfs that was made small, as containers have it, holds no VM.
fn memory_problem(config: &Config) -> Option<Problem> {
    let dir = &config.host.memory_dir;
    let existing = dir.ancestors().find(|ancestor| ancestor.exists())?;
    let fs = rustix::fs::statvfs(existing).ok()?;
    let has = fs.f_blocks.saturating_mul(fs.f_frsize);
    (has < config.vm.memory.bytes()).then(|| {
        let message = format!(
            "{} has {} MiB in all, and a VM needs {} of memory. Make it larger (“mount -o remount,size=…”), or choose \
             another tmpfs.",
            dir.display(),
            has >> 20,
            config.vm.memory,
        );
        Problem::new(MEMORY_DIR, message)
    })
}

/// Asks about the folder itself or, where it is still to be made, about the nearest one above it.
fn writable_problem(key: &'static str, path: &Path) -> Option<Problem> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    if !existing.is_dir() {
        return Some(Problem::new(
            key,
            format!("{} is not a folder. Choose another one.", existing.display()),
        ));
    }
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let usable =
        rustix::fs::access(existing, wanted).map_err(io::Error::from).and_then(|()| try_it(existing));
    usable.err().map(|error| {
        let message = format!(
            "{} cannot be written to: {}. Choose another folder, or run the server as a user who may.",
            existing.display(),
            error
        );
        Problem::new(key, message)
    })
}

/// Makes a folder and removes it: root may do everything, and still cannot write where nothing can be.
fn try_it(folder: &Path) -> io::Result<()> {
    let trial = folder.join(format!(".berth-check-{}", std::process::id()));
    match std::fs::create_dir(&trial) {
        Ok(()) => std::fs::remove_dir(&trial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn listen_problem(key: &'static str, address: SocketAddr) -> Option<Problem> {
    TcpListener::bind(address).err().map(|error| Problem::new(key, cannot_listen(address, &error)))
}

/// What to tell the operator who gave an address that cannot be listened on.
pub(crate) fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "Port {port} of {ip} is in use by another program (“ss -ltnp sport = :{port}” names it). End it, or choose \
             another port.",
            port = address.port(),
            ip = address.ip()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "Ports below 1024 are for root: {address} cannot be listened on. Choose a higher port, or run the server \
             as root."
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine. Choose one that “ip address” shows.", address.ip())
        }
        _ => format!("{address} cannot be listened on: {error}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_too_long_for_sockets() {
        assert_eq!(socket_problem(Path::new("/var/lib/berth")), None);
        let longest = MAX_SOCKET_PATH - LONGEST_SOCKET.len() - 1;
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert_eq!(socket_problem(Path::new(&path(longest))), None);
        assert!(socket_problem(Path::new(&path(longest + 1))).is_some());
    }

    #[test]
    fn folders_that_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(writable_problem("state_dir", &dir.path().join("to/be/made")), None);
        let problem = writable_problem("state_dir", &file.join("below")).unwrap();
        assert!(problem.message.ends_with("file is not a folder. Choose another one."), "{problem:?}");
        assert!(writable_problem("state_dir", Path::new("/proc/below")).is_some(), "for root too");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of the trial");
    }

    #[test]
    fn ports_that_are_taken_and_addresses_that_are_not_ours() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let problem = listen_problem("ssh.listen", taken).unwrap();
        assert!(problem.message.contains(&format!("sport = :{}", taken.port())), "{problem:?}");
        let problem = listen_problem("ssh.listen", "192.0.2.1:2222".parse().unwrap()).unwrap();
        assert!(problem.message.starts_with("192.0.2.1 is not an address of this machine."), "{problem:?}");
    }
}
