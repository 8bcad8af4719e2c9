use std::{collections::BTreeMap, path::Path};

use super::{load::parse, *};

fn read(text: &str) -> Result<Config, String> {
    parse(Path::new("berth.toml"), text).map_err(|error| error.to_string())
}

fn problems(text: &str) -> Vec<String> {
    read(text).unwrap().problems().into_iter().map(|p| format!("{}: {}", p.key, p.message)).collect()
}

#[test]
fn an_empty_file_is_the_defaults_and_they_are_sound() {
    assert_eq!(read("").unwrap(), Config::default());
    assert_eq!(problems(""), Vec::<String>::new());
}

#[test]
fn the_defaults_written_as_toml_read_back_the_same() {
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(read(&text).unwrap(), Config::default());
}

#[test]
fn the_tutorials_configuration() {
    let config = read(
        "app_domain = 'koding.com'\nvm_domain = 'kd.io'\nteam = 'koding'\n\
         [ssh]\nlisten = ['0.0.0.0:22', '[::]:22']\n[http]\nurl = 'https://koding.com/'\n[vm]\nmemory = '512 MiB'",
    )
    .unwrap();
    assert_eq!(config.problems(), []);
    let settings = config.settings().unwrap();
    assert_eq!(settings.domains.gateway_host(), "ssh.koding.com");
    assert_eq!(settings.website, "https://koding.com");
    assert_eq!(settings.vm.memory, 512 << 20);
}

#[test]
fn words_stand_for_what_has_no_end() {
    let settings = read("").unwrap().settings().unwrap();
    assert_eq!(settings.idle, berth_control::IdleRules::default());
    assert_eq!((settings.limits.vms, settings.memory), (5, None));

    let text = "[idle]\nsleep_after = 'never'\n[limits]\nvms = 'unlimited'\ncpus = 'unlimited'\n\
                memory = 'unlimited'\ndisk = 'unlimited'\n[host]\nmemory = 'all'";
    let config = read(text).unwrap();
    assert_eq!(config.problems(), []);
    let settings = config.settings().unwrap();
    assert_eq!(settings.idle.sleep_after, None);
    assert_eq!((settings.limits, settings.memory), (berth_control::Limits::NONE, None));
    assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);

    let text = "[idle]\nsleep_after = '90 s'\nbusy_cpu = 50\nbusy_disk = '1 MiB'\n[limits]\nvms = 7\n[host]\nmemory = '4 GiB'";
    let settings = read(text).unwrap().settings().unwrap();
    assert_eq!(settings.idle.sleep_after, Some(std::time::Duration::from_secs(90)));
    assert_eq!((settings.idle.busy_cpu, settings.idle.busy_disk), (0.5, 1 << 20));
    assert_eq!((settings.limits.vms, settings.memory), (7, Some(4 << 30)));
}

#[test]
fn unknown_keys_are_refused_with_their_path_line_and_a_hint() {
    let docs = "docs/configuration.md describes every key.";
    for (text, says) in [
        ("app_domian = 'x'", "berth.toml, line 1: There is no key app_domian. Did you mean app_domain?"),
        (
            "team = 'ab'\n[ssh]\nlisten = []\nport = 2",
            "berth.toml, line 4: There is no key ssh.port. The keys here are listen, old_algorithms, limits, penalties.",
        ),
        ("[http]\nlsiten = []", "berth.toml, line 2: There is no key http.lsiten. Did you mean http.listen?"),
        (
            "[vm]\nram = '1 GiB'",
            "berth.toml, line 2: There is no key vm.ram. The keys here are cpus, memory, disk, internet, stop_patience.",
        ),
    ] {
        assert_eq!(read(text).unwrap_err(), format!("{says} {docs}"));
    }
}

#[test]
fn values_that_mean_nothing_are_refused_with_their_path_and_what_is_expected() {
    for (text, parts) in [
        ("[vm]\nmemory = '1 gig'", ["line 2", "vm.memory", "for example \"1 GiB\""]),
        ("[vm]\nmemory = 1024", ["line 2", "vm.memory", "Give a size in quotes"]),
        ("[vm]\ncpus = -1", ["line 2", "vm.cpus", "Give a whole number"]),
        ("[vm]\nstop_patience = '1 minute'", ["line 2", "vm.stop_patience", "for example \"30 s\""]),
        (
            "[limits]\nvms = -1",
            ["line 2", "limits.vms", "Give a whole number, for example 5, or \"unlimited\""],
        ),
        (
            "[limits]\nmemory = 'lots'",
            ["line 2", "limits.memory", "for example \"20 GiB\", or \"unlimited\""],
        ),
        ("[limits]\ndisk = true", ["line 2", "limits.disk", "for example \"20 GiB\", or \"unlimited\""]),
        ("[idle]\nsleep_after = 20", ["line 2", "idle.sleep_after", "for example \"20 min\", or \"never\""]),
        ("[idle]\nbusy_cpu = '20 %'", ["line 2", "idle.busy_cpu", "Give a whole number"]),
        ("[host]\nmemory = 'some'", ["line 2", "host.memory", "for example \"16 GiB\", or \"all\""]),
        ("idle = 1", ["line 1", "idle:", "begin it with [idle]."]),
        ("team = 'Root!'", ["line 1", "team", "A name has 2 to 32 characters"]),
        ("team = 'root'", ["line 1", "team", "reserved"]),
        (
            "[ssh]\nlisten = ['127.0.0.1:22', '127.0.0.1']",
            ["line 2", "ssh.listen[1]", "Give an IP address and a port, for example"],
        ),
        ("[ssh]\nlisten = ['0.0.0.0:65536']", ["line 2", "ssh.listen[0]", "for example \"127.0.0.1:2222\"."]),
        ("[http]\nlisten = 'x'", ["line 2", "http.listen", "for example [\"127.0.0.1:8080\"]."]),
        ("ssh = 1", ["line 1", "ssh:", "begin it with [ssh]."]),
        ("[ssh", ["line 1", "not TOML", "berth.toml"]),
        ("team = 'ab'\nteam = 'cd'", ["line 2", "not TOML", "duplicate key"]),
    ] {
        let error = read(text).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{text:?} gives {error:?} without {part:?}");
        }
        assert!(!error.contains("..") && !error.contains("invalid"), "{text:?} gives {error:?}");
    }
}

#[test]
fn values_that_cannot_work_are_named_all_at_once() {
    let all = problems(
        "app_domain = 'kd.io'\nvm_domain = 'x.kd.io'\n[ssh]\nlisten = []\n\
         [http]\nlisten = ['127.0.0.1:1', '127.0.0.1:1']\nurl = 'javascript:alert(1)'\n\
         [vm]\ncpus = 0\nmemory = '1 MB'\ndisk = '1 GiB'\nstop_patience = '2 h'\n\
         [idle]\nsleep_after = '5 ms'\nbusy_cpu = 0\n[limits]\nmemory = '1 kB'\ndisk = '1 MiB'\n\
         [host]\nmemory = '1 kB'\nmemory_dir = 'shm'\n[log]\nlevel = 'loud'",
    );
    let keys: Vec<_> = all.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "app_domain",
            "ssh.listen",
            "http.listen",
            "http.url",
            "vm.cpus",
            "vm.memory",
            "vm.memory",
            "vm.disk",
            "vm.stop_patience",
            "idle.sleep_after",
            "idle.busy_cpu",
            "limits.memory",
            "limits.disk",
            "host.memory",
            "host.memory_dir",
            "log.level"
        ],
        "{all:#?}"
    );
}

#[test]
fn the_log_level_may_name_parts() {
    assert_eq!(problems("[log]\nlevel = 'debug'"), Vec::<String>::new());
    assert_eq!(problems("[log]\nlevel = 'info,berth_gateway=debug'"), Vec::<String>::new());
    assert_eq!(problems("[log]\nlevel = 'info,berth=loud'").len(), 1);
    assert_eq!(problems("[log]\nlevel = 'info, in\u{45d}=debug'").len(), 1);
}

#[test]
fn the_command_line_wins_and_images_are_below_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("berth.toml");
    std::fs::write(&file, "state_dir = '/one'").unwrap();
    let by_file = load(Overrides { file: Some(file.clone()), ..Overrides::default() }).unwrap();
    assert_eq!((by_file.state_dir.to_str(), by_file.image_dir.to_str()), (Some("/one"), Some("/one/images")));
    let overrides =
        Overrides { file: Some(file), state_dir: Some("/two".into()), image_dir: Some("/three".into()) };
    let config = load(overrides).unwrap();
    assert_eq!((config.state_dir.to_str(), config.image_dir.to_str()), (Some("/two"), Some("/three")));
}

#[test]
fn a_folder_in_a_file_is_a_whole_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("berth.toml");
    for key in ["state_dir", "image_dir"] {
        std::fs::write(&file, format!("{key} = 'relative'")).unwrap();
        let error = load(Overrides { file: Some(file.clone()), ..Overrides::default() }).unwrap_err();
        assert!(
            error.to_string().contains(&format!("{key}: \"relative\" does not begin with /.")),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Overrides { file: Some("/no/such.toml".into()), ..Overrides::default() }).unwrap_err();
    assert!(
        error.to_string().starts_with("The configuration file /no/such.toml cannot be read: "),
        "{error}"
    );
}

/// Every key that a file can have, with its default as TOML.
fn keys(prefix: &str, table: &toml::Table, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(table) => keys(&format!("{prefix}{key}."), table, found),
            value => {
                found.insert(format!("{prefix}{key}"), value.to_string());
            }
        }
    }
}

#[test]
fn every_key_and_its_default_is_in_the_docs() {
    let mut expected = BTreeMap::new();
    keys("", &toml::Table::try_from(Config::default()).unwrap(), &mut expected);
    // These three depend on other values, and the docs say how.
    for (key, words) in [
        ("state_dir", "see below"),
        ("image_dir", "`images` in the state folder"),
        (
            "http.url",
            "`http://`, `app_domain` and the port of the first `http.listen`; with https, `https://` and the port of the first `http.tls.listen`",
        ),
    ] {
        assert_eq!(
            expected.insert(key.into(), words.into()).as_deref(),
            Some("\"\""),
            "{key} is not special any more"
        );
    }

    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    let documented: BTreeMap<String, String> = docs
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let key = cells.next()?.strip_suffix('`').filter(|key| !key.starts_with('-'))?;
            let default = cells.next()?;
            let plain = default
                .strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
                .filter(|rest| !rest.contains('`'));
            Some((key.to_owned(), plain.unwrap_or(default).to_owned()))
        })
        .collect();
    assert_eq!(documented, expected);
}
