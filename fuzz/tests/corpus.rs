//! Every input of the corpora once more, in an ordinary build: what was found once is not found again. And every target has some.
#![cfg(test)]

use std::{collections::BTreeSet, fs, path::PathBuf};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn every_input_is_harmless() {
    for (name, target) in berth_fuzz::TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(folder("corpus").join(name)).expect(name) {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("an input");
            assert!(input.len() <= 16 << 10, "{} is large", path.display());
            eprintln!("{}", path.display());
            target(&input);
            inputs += 1;
        }
        assert!((1..=64).contains(&inputs), "{name} has {inputs} inputs");
        target(&[]);
    }
}

#[test]
fn every_target_has_a_corpus() {
    let targets: BTreeSet<String> = berth_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), berth_fuzz::TARGETS.len(), "one is there twice");
    let corpora = fs::read_dir(folder("corpus"))
        .expect("the corpora")
        .map(|entry| entry.expect("an entry").file_name());
    assert_eq!(corpora.map(|name| name.to_string_lossy().into_owned()).collect::<BTreeSet<_>>(), targets);
}
