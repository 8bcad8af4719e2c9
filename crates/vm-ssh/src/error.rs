//! Why there is no session.

/// What went wrong, in a sentence for whoever wanted in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What should log in is not what it should be.
    #[error("What Berth made to log in with cannot be read.")]
    Credentials,
    /// Somebody else answered.
    #[error(
        "What answers in this VM has another ssh host key than the VM was given, so nothing was sent to it. Whoever changed \
         /etc/ssh in it can change that back; turning the VM off and on does it, too."
    )]
    HostKey,
    /// The sshd in the VM does not let in who has a right to.
    #[error(
        "The sshd in the VM did not let Berth in. If its settings or its clock were changed, change that back; turning the \
         VM off and on does it, too."
    )]
    Refused,
    /// The VM has not answered for so long that nobody should wait on.
    #[error("The VM did not answer in time. Try again in a moment.")]
    Silent,
    /// The sshd in the VM does not give what was asked for.
    #[error("The sshd in the VM refused {0}.")]
    Request(&'static str),
    /// The sshd in the VM does not open a channel: the reason code of RFC 4254, 5.1.
    #[error("The sshd in the VM opens no such channel{}.", why(*.0))]
    NotOpened(u32),
    /// The connection has ended.
    #[error("The connection to the VM has ended.")]
    Ended,
}

impl From<russh::Error> for Error {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::ChannelOpenFailure(reason) => Self::NotOpened(reason.code()),
            russh::Error::UnknownKey | russh::Error::NoCommonAlgo { .. } => Self::HostKey,
            error => {
                tracing::debug!(%error, "an ssh connection into a VM ended");
                Self::Ended
            }
        }
    }
}

/// A reason code in words.
fn why(code: u32) -> &'static str {
    match code {
        1 => ": it may not",
        2 => ": what it should lead to does not answer",
        4 => ": it has no room for it",
        _ => "",
    }
}
