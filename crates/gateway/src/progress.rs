//! What somebody who waits for a VM is told on stderr, in one line as long as nothing unexpected happens.

use berth_control::{Progress, Status};

/// The state of the person's terminal: what the line says that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// There is none.
    None,
    /// That the VM comes up.
    Start,
    /// That it has to wait for its turn.
    Queue,
}

/// The words for one wait, from its first news to its last.
pub(crate) struct Telling {
    line: Line,
}

impl Telling {
    pub(crate) fn new() -> Self {
        Self { line: Line::None }
    }

    /// What is to be written now, in the words of UI.md.
    pub(crate) fn words(&mut self, progress: &Progress) -> String {
        let before = if self.line == Line::None { "" } else { "\n" };
        match progress {
            Progress::Starting { vm, was, usual } => {
                self.line = Line::Start;
                // A wake is over before anybody could make use of an estimate, and nobody knows how large a home is.
                let usual = usual.filter(|_| {
                    !matches!(was, Status::Running | Status::Asleep | Status::Waking | Status::Rebuilding)
                });
                let about = usual.map(|time| format!(" (about {} s)", time.as_secs_f64().round().max(1.0)));
                let doing = match was {
                    Status::Starting => "starting",
                    Status::Stopping => "stopping, starting it again",
                    Status::Asleep => "asleep, waking it",
                    Status::Waking => "waking",
                    Status::Rebuilding => "being rebuilt, waiting for that",
                    // One that runs and has to be waited for is falling asleep; one that is being removed is refused.
                    Status::Running => "falling asleep, waking it",
                    Status::Off | Status::Failed | Status::Removing => "off, starting it",
                };
                format!("{before}{} is {doing}{}…", vm.label(), about.unwrap_or_default())
            }
            Progress::Queued { vm, ahead, reason } => {
                let place = match ahead {
                    0 => "You are next in the queue".to_owned(),
                    1 => "1 VM is before yours in the queue".to_owned(),
                    n => format!("{n} VMs are before yours in the queue"),
                };
                if self.line == Line::Queue {
                    return format!("\n{place}…");
                }
                self.line = Line::Queue;
                let vm = vm.label();
                format!(
                    "{before}There is no memory free for {vm} on this host right now: {reason}. {place}; it starts by itself…"
                )
            }
            Progress::Ready { vm, took } => {
                let was = std::mem::replace(&mut self.line, Line::None);
                if was == Line::None {
                    return format!("{} is ready.\n", vm.label());
                }
                format!(" ready in {:.1} s\n", took.as_secs_f64().max(0.1))
            }
        }
    }

    /// What ends the line, where one has not ended.
    pub(crate) fn end(&mut self) -> Option<String> {
        (std::mem::replace(&mut self.line, Line::None) != Line::None).then(|| "\n".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::VmName;
    use std::time::Duration;

    fn vm() -> VmName {
        "vm-0.alice.koding".parse().expect("a name")
    }

    fn starting(was: Status, usual: Option<Duration>) -> Progress {
        Progress::Starting { vm: vm(), was, usual }
    }

    fn queued(ahead: usize) -> Progress {
        Progress::Queued { vm: vm(), ahead, reason: "it needs 1 GB, and 0.4 GB is free".into() }
    }

    fn ready(millis: u64) -> Progress {
        Progress::Ready { vm: vm(), took: Duration::from_millis(millis) }
    }

    fn told(news: &[Progress]) -> String {
        let mut telling = Telling::new();
        let mut text: String = news.iter().map(|progress| telling.words(progress)).collect();
        text.extend(telling.end());
        text
    }

    #[test]
    fn a_start_is_told_in_one_line() {
        let usual = Some(Duration::from_millis(7900));
        for (was, usual, line) in [
            (Status::Off, usual, "vm-0 is off, starting it (about 8 s)… ready in 7.6 s\n"),
            (Status::Off, None, "vm-0 is off, starting it… ready in 7.6 s\n"),
            (Status::Starting, usual, "vm-0 is starting (about 8 s)… ready in 7.6 s\n"),
            (Status::Stopping, None, "vm-0 is stopping, starting it again… ready in 7.6 s\n"),
            (Status::Running, usual, "vm-0 is falling asleep, waking it… ready in 7.6 s\n"),
            (Status::Asleep, usual, "vm-0 is asleep, waking it… ready in 7.6 s\n"),
            (Status::Rebuilding, None, "vm-0 is being rebuilt, waiting for that… ready in 7.6 s\n"),
            (Status::Waking, usual, "vm-0 is waking… ready in 7.6 s\n"),
        ] {
            assert_eq!(told(&[starting(was, usual), ready(7630)]), line);
        }
    }

    #[test]
    fn no_time_at_all_is_a_tenth_of_a_second() {
        for (millis, time) in [(0, "0.1"), (70, "0.1"), (149, "0.1"), (151, "0.2"), (12_040, "12.0")] {
            let line = format!("vm-0 is asleep, waking it… ready in {time} s\n");
            assert_eq!(told(&[starting(Status::Asleep, None), ready(millis)]), line);
        }
        assert_eq!(told(&[ready(10)]), "vm-0 is ready.\n");
    }

    #[test]
    fn what_comes_otherwise_begins_a_line() {
        let news = [starting(Status::Asleep, None), starting(Status::Off, Some(Duration::from_secs(8)))];
        let line = "vm-0 is asleep, waking it…\nvm-0 is off, starting it (about 8 s)…\n";
        assert_eq!(told(&news), line);
        assert_eq!(told(&[]), "");
    }

    #[test]
    fn a_queue_is_explained_once_and_counted_down() {
        let text = "There is no memory free for vm-0 on this host right now: it needs 1 GB, and 0.4 GB is free. \
                    2 VMs are before yours in the queue; it starts by itself…\n\
                    1 VM is before yours in the queue…\n\
                    You are next in the queue…\n\
                    vm-0 is asleep, waking it… ready in 0.2 s\n";
        let news = [queued(2), queued(1), queued(0), starting(Status::Asleep, None), ready(200)];
        assert_eq!(told(&news), text);
        assert!(told(&[queued(0)]).ends_with(". You are next in the queue; it starts by itself…\n"));
        assert!(told(&[queued(0), ready(3000)]).ends_with("itself… ready in 3.0 s\n"));
    }
}
