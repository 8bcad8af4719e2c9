//! Builds the stock image into the folder that is its argument, as `berth image build` does.
//!
//! Little has to be compiled for this program, so `make up` has it long before berth itself, and builds the image
//! beside the rest of berth.

use std::{env, path::Path, process::ExitCode};

use berth_engine_qemu::image::{BuildOptions, build};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(dir), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: berth-image IMAGE_DIR");
        return ExitCode::from(2);
    };
    match build(Path::new(&dir), &BuildOptions::default(), &mut |line| eprintln!("{line}")) {
        Ok(image) => {
            println!("{}", image.id);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
