//! A PostgreSQL server that ends with the process that started it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// A shell starts the server and ends it: at the end of its input, which comes with the end of this process, whatever that is.
/// The server is in a folder of its own, with no way in but a socket there. Its language is English, which orders texts
/// otherwise than by their bytes.
const RUN: &str = r#"
    set -e
    folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-pg.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    cd "$folder"
    "$0/initdb" --pgdata=data --username=berth --auth=trust --encoding=UTF8 --locale-provider=icu --icu-locale=en \
        --locale=C.UTF-8 --no-sync >log 2>&1 || { cat log >&2; exit 1; }
    "$0/postgres" -D data -k "$folder" -h '' -F -c max_connections=300 -c autovacuum=off >>log 2>&1 &
    tries=0
    until "$0/pg_isready" -q -h "$folder"; do
        tries=$((tries + 1))
        { kill -0 $! && [ $tries -lt 600 ]; } || { cat log >&2; exit 1; }
        sleep 0.1
    done
    echo "$folder"
    cat >/dev/null
    kill -INT $!
    wait $!
"#;

const MISSING: &str = "PostgreSQL is not installed, and every test of the store runs on it too. Install it: apt install postgresql";

/// A PostgreSQL server, out of Debian's package. Its superuser is `berth`, who needs no password.
#[derive(Debug)]
pub struct Postgres {
    folder: String,
    _shell: Child,
    _input: ChildStdin,
}

impl Postgres {
    /// Starts one, which takes seconds; this blocks. It ends when this is dropped, or with the process.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let programs = programs().expect(MISSING);
        // The server refuses to run as root.
        let is_root = fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0);
        let program = if is_root { "setpriv" } else { "sh" };
        #[expect(clippy::disallowed_methods, reason = "its input ends with this process, and it with that")]
        let mut command = Command::new(program);
        if is_root {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", "sh"]);
        }
        command.arg("-c").arg(RUN).arg(programs).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().expect("a shell starts");
        let input = shell.stdin.take().expect("its input is a pipe");
        let output = shell.stdout.take().expect("its output is a pipe");
        let mut folder = String::new();
        BufReader::new(output).read_line(&mut folder).expect("the shell writes a line");
        assert!(!folder.is_empty(), "PostgreSQL did not start; what it said is above.");
        Self { folder: folder.trim().to_owned(), _shell: shell, _input: input }
    }

    /// The address of a database on it. There is `postgres`, with nothing in it.
    #[must_use]
    pub fn address(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=berth", self.folder)
    }
}

/// Where Debian keeps the server's programs: the newest there are.
fn programs() -> Option<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let versions = versions.filter_map(|version| version.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let folders = versions.map(|version| (version, format!("/usr/lib/postgresql/{version}/bin")));
    let there = folders.filter(|(_, folder)| Path::new(folder).join("initdb").exists());
    there.max().map(|(_, folder)| folder)
}
