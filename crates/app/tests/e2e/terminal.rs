//! A person at a terminal: reads what appears, types.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program under `script(1)`, which gives it a terminal.
pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// What has appeared and was not yet waited for.
    screen: String,
}

impl Terminal {
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) runs");
        let keys = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, output, screen: String::new() }
    }

    /// Waits until `text` appears; gives all that appeared up to and with it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(at) = self.screen.find(text) {
                let rest = self.screen.split_off(at + text.len());
                return std::mem::replace(&mut self.screen, rest);
            }
            match self.output.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
                Ok(chunk) => self.screen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} did not appear in {:?}", self.screen),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {text:?}: {:?}", self.screen),
            }
        }
    }

    /// Types `text`.
    pub(crate) fn send(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("the terminal is there");
        self.keys.flush().expect("the terminal is there");
    }

    /// Waits for its end; gives what appeared since, and the exit status.
    pub(crate) fn finish(mut self) -> (String, Option<i32>) {
        while let Ok(chunk) = self.output.recv_timeout(PATIENCE) {
            self.screen.push_str(&String::from_utf8_lossy(&chunk));
        }
        (std::mem::take(&mut self.screen), self.child.wait().expect("it was spawned").code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
