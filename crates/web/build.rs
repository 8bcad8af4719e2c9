//! Makes the files of `assets/` ready to be served: named after their contents, so that they can be cached for ever, and
//! compressed once instead of for every visitor.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// What is served: the file below `assets/`, its constant, its type.
const FILES: [(&str, &str, &str); 15] = [
    ("berth.css", "STYLE", "text/css; charset=utf-8"),
    ("berth.js", "SCRIPT", "text/javascript; charset=utf-8"),
    ("passkey.js", "PASSKEY", "text/javascript; charset=utf-8"),
    ("vendor/htmx.js", "HTMX", "text/javascript; charset=utf-8"),
    ("vendor/hx-sse.js", "HX_SSE", "text/javascript; charset=utf-8"),
    ("icon.svg", "ICON", "image/svg+xml"),
    ("terminal.css", "TERMINAL_STYLE", "text/css; charset=utf-8"),
    ("terminal.js", "TERMINAL_SCRIPT", "text/javascript; charset=utf-8"),
    ("terminal-look.js", "TERMINAL_LOOK", "text/javascript; charset=utf-8"),
    ("terminal-line.js", "TERMINAL_LINE", "text/javascript; charset=utf-8"),
    ("watch.js", "WATCH_SCRIPT", "text/javascript; charset=utf-8"),
    ("vendor/xterm.css", "XTERM_STYLE", "text/css; charset=utf-8"),
    ("vendor/xterm.js", "XTERM", "text/javascript; charset=utf-8"),
    ("vendor/xterm-fit.js", "XTERM_FIT", "text/javascript; charset=utf-8"),
    ("vendor/xterm-web-links.js", "XTERM_WEB_LINKS", "text/javascript; charset=utf-8"),
];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut code = String::new();
    for (path, constant, kind) in FILES {
        println!("cargo::rerun-if-changed=assets/{path}");
        code += &prepare(Path::new(path), constant, kind, &out)?;
    }
    fs::write(out.join("assets.rs"), code)
}

/// Writes the file in its three forms and returns the constant that names them.
fn prepare(path: &Path, constant: &str, kind: &str, out: &Path) -> io::Result<String> {
    let bytes = fs::read(Path::new("assets").join(path))?;
    let hash: String = Sha256::digest(&bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
    let extension = path.extension().and_then(|extension| extension.to_str()).expect("an extension");
    let name = format!("{stem}.{hash}.{extension}");
    for (suffix, bytes) in [("", bytes.clone()), (".gz", gzip(&bytes)?), (".br", brotli(&bytes)?)] {
        fs::write(out.join(format!("{name}{suffix}")), bytes)?;
    }
    let form = |suffix| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}{suffix}\"))");
    let (plain, gzip, brotli) = (form(""), form(".gz"), form(".br"));
    Ok(format!(
        "pub(crate) const {constant}: Asset = Asset {{ path: \"/assets/{name}\", kind: {kind:?}, plain: {plain}, \
         gzip: {gzip}, brotli: {brotli} }};\n"
    ))
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = vec![];
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
    brotli::BrotliCompress(&mut &*bytes, &mut packed, &parameters)?;
    Ok(packed)
}
