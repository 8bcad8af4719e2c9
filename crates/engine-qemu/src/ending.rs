//! How the last run of a VM ended, kept in its `ended.json`.
//!
//! At its start a run writes the ending that it will have had if nobody lives to write a better one, so that a host
//! that lost power and a killed shim are told from a shutdown.

use std::{fs, io};

use berth_engine::Ending;

use crate::paths::{VmPaths, write_durably};

/// Writes how the run ended, or will have ended. On stable storage when this returns. Blocks.
pub(crate) fn write(paths: &VmPaths, ending: &Ending) -> io::Result<()> {
    write_durably(&paths.ended(), &serde_json::to_vec(ending)?)
}

/// What was written last; `None` when the VM never ran or the file cannot be understood. Blocks.
pub(crate) fn read(paths: &VmPaths) -> Option<Ending> {
    serde_json::from_slice(&fs::read(paths.ended()).ok()?).ok()
}

/// The ending of a run whose shim did not live to write one.
pub(crate) fn cut_off() -> Ending {
    Ending::Failed { reason: "it was cut off: its process was killed, or the host went down".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::StateDir;

    #[test]
    fn an_ending_is_read_back_and_rubbish_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let paths = StateDir::open(dir.path(), dir.path()).unwrap().vm(&berth_model::VmId::random());
        fs::create_dir(&paths.dir).unwrap();
        assert_eq!(read(&paths), None);
        write(&paths, &cut_off()).unwrap();
        write(&paths, &Ending::PoweredOff).unwrap();
        assert_eq!(read(&paths), Some(Ending::PoweredOff));
        fs::write(paths.ended(), b"{").unwrap();
        assert_eq!(read(&paths), None);
    }
}
