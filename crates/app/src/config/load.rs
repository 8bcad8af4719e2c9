//! From the command line, the environment and a file to a [`Config`].

use std::{
    borrow::Cow,
    env, fs, io,
    path::{Path, PathBuf},
};

use super::Config;

/// A configuration file longer than this is some other file.
const MAX_FILE: u64 = 1 << 20;
/// Where the keys are described.
const DOCS: &str = "docs/configuration.md describes every key.";

/// What the command line and the environment say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// In place of `state_dir`.
    pub(crate) state_dir: Option<PathBuf>,
    /// In place of `image_dir`.
    pub(crate) image_dir: Option<PathBuf>,
}

/// Why there is no configuration. The sentence is for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("The configuration file {} cannot be read: {source}.", .path.display())]
    File { path: PathBuf, source: io::Error },
    /// The file is too long to be one.
    #[error("The configuration file {} is longer than 1 MiB, so it is probably another file.", .0.display())]
    TooLong(PathBuf),
    /// The file is not TOML, or has a key or a value that means nothing.
    #[error("{}{}: {message}", .path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Text { path: PathBuf, line: Option<usize>, message: String },
    /// Nobody says where the state is to be kept.
    #[error("It is not known where to keep the state: HOME is not set. Give --state DIR.")]
    NoHome,
    /// A folder is given by a path that depends on where the command is run.
    #[error("The working folder is not known, so {} means nothing: {source}. Give a path that begins with /.", .path.display())]
    Relative { path: PathBuf, source: io::Error },
}

/// The configuration in force. Its values may still make no sense together: see [`Config::problems`].
pub(crate) fn load(overrides: Overrides) -> Result<Config, ConfigError> {
    let mut config = match &overrides.file {
        Some(path) => parse(path, &read(path)?).and_then(|config| rooted(path, config))?,
        None => Config::default(),
    };
    if let Some(dir) = overrides.state_dir {
        config.state_dir = dir;
    }
    if let Some(dir) = overrides.image_dir {
        config.image_dir = dir;
    }
    if config.state_dir.as_os_str().is_empty() {
        config.state_dir = default_state_dir()?;
    }
    if config.image_dir.as_os_str().is_empty() {
        config.image_dir = config.state_dir.join("images");
    }
    config.state_dir = absolute(config.state_dir)?;
    config.image_dir = absolute(config.image_dir)?;
    Ok(config)
}

/// Refuses folders that would be others for each folder that a command is run in.
fn rooted(file: &Path, config: Config) -> Result<Config, ConfigError> {
    for (key, path) in [("state_dir", &config.state_dir), ("image_dir", &config.image_dir)] {
        if path.is_relative() && !path.as_os_str().is_empty() {
            let message = format!("{key}: {path:?} does not begin with /. Give the whole path. {DOCS}");
            return Err(ConfigError::Text { path: file.to_owned(), line: None, message });
        }
    }
    Ok(config)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    fs::read_to_string(path).map_err(failed)
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let refused = |line, message| ConfigError::Text { path: path.to_owned(), line, message };
    let at = |error: &toml::de::Error| error.span().map(|span| line_of(text, span.start));
    let document = toml::Deserializer::parse(text)
        .map_err(|error| refused(at(&error), format!("This is not TOML: {}.", error.message())))?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let (key, cause) = (error.path().to_string(), error.inner());
        refused(at(cause), explain(&key, cause.message()))
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// Serde's words in ours.
fn explain(key: &str, message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else {
        let unknown_place = key.is_empty() || key == ".";
        let message = plain(key, message);
        let message = message.trim_end_matches('.');
        return if unknown_place {
            format!("{message}. {DOCS}")
        } else {
            format!("{key}: {message}. {DOCS}")
        };
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or(key);
    let known: Vec<&str> = quoted.collect();
    let place = key.strip_suffix(unknown).unwrap_or_default();
    let hint = match closest(unknown, &known) {
        Some(meant) => format!("Did you mean {place}{meant}?"),
        None => format!("The keys here are {}.", known.join(", ")),
    };
    format!("There is no key {place}{unknown}. {hint} {DOCS}")
}

/// What a value has to be, where only Serde or a library says that it is not; else the words as they are.
fn plain<'a>(key: &str, message: &'a str) -> Cow<'a, str> {
    let theirs = ["invalid type: ", "invalid value: ", "invalid socket address"];
    if !theirs.iter().any(|words| message.starts_with(words)) {
        return Cow::Borrowed(message);
    }
    let wanted = match key {
        "ssh.listen" => "a list of addresses, for example [\"127.0.0.1:2222\"]",
        "http.listen" => "a list of addresses, for example [\"127.0.0.1:8080\"]",
        _ if key.starts_with("ssh.listen[") => "an IP address and a port, for example \"127.0.0.1:2222\"",
        _ if key.starts_with("http.listen[") => "an IP address and a port, for example \"127.0.0.1:8080\"",
        "ssh" | "http" | "engine" | "vm" | "idle" | "limits" | "host" | "log" => {
            return Cow::Owned(format!("This is a group of keys: begin it with [{key}]"));
        }
        "engine.address" => "a list of texts, for example [\"https://10.0.0.11:8443\"]",
        "engine.profiles" => "a list of texts, for example [\"default\"]",
        "vm.cpus" | "idle.busy_cpu" => "a whole number, for example 2",
        "limits.vms" | "limits.cpus" => "a whole number, for example 5, or \"unlimited\"",
        "vm.memory" | "vm.disk" | "idle.busy_disk" => "a size in quotes, for example \"10 GiB\"",
        "limits.memory" | "limits.disk" => "a size in quotes, for example \"20 GiB\", or \"unlimited\"",
        "host.memory" => "a size in quotes, for example \"16 GiB\", or \"all\"",
        "idle.sleep_after" => "a length of time in quotes, for example \"20 min\", or \"never\"",
        "vm.stop_patience" => "a length of time in quotes, for example \"1 min\"",
        "vm.internet" | "ssh.old_algorithms" => "true or false",
        _ => "a text in quotes",
    };
    Cow::Owned(format!("This value means nothing here. Give {wanted}"))
}

/// The word that differs from `unknown` by the least, if it is little.
fn closest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, word) = known.iter().map(|word| (strsim::osa_distance(unknown, word), *word)).min()?;
    (distance <= 1 + unknown.len() / 4).then_some(word)
}

fn default_state_dir() -> Result<PathBuf, ConfigError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/berth"));
    }
    let of = |name| env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let data = of("XDG_DATA_HOME").or_else(|| of("HOME").map(|home| home.join(".local/share")));
    data.map(|dir| dir.join("berth")).ok_or(ConfigError::NoHome)
}

fn absolute(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|source| ConfigError::Relative { path, source })
}
