//! The image that a VM lies over, and what a host without one is told.

use std::{fs, path::Path};

use berth_engine::EngineError;

use crate::image::{self, Image, ImageError};

/// The image for a new VM.
pub(crate) fn latest(image_dir: &Path) -> Result<Image, EngineError> {
    image::find_latest(image_dir).map_err(|error| unusable(&error))?.ok_or_else(|| EngineError::Broken {
        reason: format!("there is no image in {}: make one with berth image build", image_dir.display()),
    })
}

/// The image that an overlay was made over; `reference` is the file that names it. Blocks.
pub(crate) fn of_vm(image_dir: &Path, reference: &Path) -> Result<Image, EngineError> {
    let id = fs::read_to_string(reference).map_err(|error| EngineError::Broken {
        reason: format!("{} cannot be read: {error}", reference.display()),
    })?;
    image::find(image_dir, &id).ok_or_else(|| EngineError::Broken {
        reason: format!(
            "the image {id} is not in {} any more, and the VM's disk is no use without it: put it back",
            image_dir.display()
        ),
    })
}

fn unusable(error: &ImageError) -> EngineError {
    EngineError::Broken { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_image_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = latest(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("make one with berth image build"), "{error}");
        let reference = dir.path().join("image");
        fs::write(&reference, "debian-13-gone").unwrap();
        let error = of_vm(dir.path(), &reference).unwrap_err();
        assert!(error.to_string().contains("the image debian-13-gone is not in"), "{error}");
    }
}
