//! What fuzzers do with a configuration file. The program is [its own crate](../berth/index.html); this one is empty but for
//! them.
#![cfg(feature = "fuzzing")]
#![expect(dead_code, reason = "only the parts that read a file are asked here")]
#![cfg_attr(not(test), expect(unused_imports, reason = "the same"))]

mod config;
mod state;

use std::path::Path;

/// The text of a configuration file.
///
/// # Panics
/// If one that is said to be right cannot be used, or is another when it is written down and read again.
pub fn configuration(text: &str) {
    let path = Path::new("/berth.toml");
    match config::load::parse(path, text) {
        Ok(config) => {
            let written = toml::to_string(&config).expect("a configuration can be written");
            let again =
                config::load::parse(path, &written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(again, config, "{written}");
            let problems = config.problems();
            assert_eq!(again.problems(), problems);
            assert!(problems.iter().all(|problem| !problem.key.is_empty() && !problem.message.is_empty()));
            if problems.is_empty() {
                config.settings().expect("one without problems can be used");
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("/berth.toml"), "{said}");
        }
    }
}
