//! Builds the stock image into the folder that is its argument, as `berth image build` does; with the word `container` after
//! it, the one for system containers.
//!
//! Little has to be compiled for this program, so `make up` has it long before berth itself, and builds the image
//! beside the rest of berth.

use std::{env, path::Path, process::ExitCode};

use berth_engine_qemu::image::{BuildOptions, build, build_container};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(dir), format, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: berth-image IMAGE_DIR [container]");
        return ExitCode::from(2);
    };
    let (dir, options) = (Path::new(&dir), BuildOptions::default());
    let progress = &mut |line: &str| eprintln!("{line}");
    let built = match format {
        None => build(dir, &options, progress).map(|image| image.id),
        Some(word) if word == "container" => build_container(dir, &options, progress).map(|image| image.id),
        Some(_) => {
            eprintln!("usage: berth-image IMAGE_DIR [container]");
            return ExitCode::from(2);
        }
    };
    match built {
        Ok(id) => {
            println!("{id}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
