//! Why a cluster did not do what it was asked.

use std::time::Duration;

use berth_engine::EngineError;

/// What went wrong between Berth and a cluster. The texts are for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncusError {
    /// A file that the connection needs cannot be used.
    #[error("{path} cannot be used: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Nothing was sent: no connection came about, at any address.
    #[error("the cluster cannot be reached at {address}: {reason}")]
    Unreachable {
        /// The address that was tried last.
        address: String,
        /// Why.
        reason: String,
    },
    /// The cluster answers, but the member that has the instance does not, or is known to be down.
    #[error("the machine that it is on does not answer")]
    Away,
    /// The answer did not come. What was asked may have been done or not.
    #[error("the cluster did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection ended before the answer was whole. What was asked may have been done or not.
    #[error("the connection to the cluster broke: {0}")]
    Broken(String),
    /// There is no such instance, image or operation.
    #[error("the cluster knows no such thing")]
    Missing,
    /// Another operation on the instance is under way.
    #[error("the cluster is busy with it")]
    Busy,
    /// The cluster chooses who keeps its database, as it does after a member is gone: nothing was done.
    #[error("the cluster is not ready")]
    NotReady,
    /// The cluster said no, at once or at the end of an operation.
    #[error("the cluster said: {0}")]
    Refused(String),
    /// The answer is none of Incus'.
    #[error("the cluster's answer is not understood: {0}")]
    Odd(String),
}

impl IncusError {
    /// What an answer with an error says. Incus has codes for few of them, and words for all.
    #[must_use]
    pub fn told(code: u16, text: &str) -> Self {
        let has = |needle: &str| text.contains(needle);
        if code == 404 || has("not found") && !has("image") {
            Self::Missing
        } else if has("Instance is busy") || has("is busy running") {
            Self::Busy
        } else if has("isn't ready yet") || has("dqlite leader") || has("driver: bad connection") {
            Self::NotReady
        } else if has("Failed to connect to")
            || has("Unable to connect to")
            || has("no route to host")
            || has("i/o timeout")
            || has("Failed to fetch http")
            || has("server misbehaving")
            || has("Missing event connection with target")
            || has("unexpected EOF")
            || has("Member is down")
            || has("is currently offline")
            || has("Cluster member is offline")
            || has("connection refused")
            || has("connection reset by peer")
        {
            Self::Away
        } else {
            Self::Refused(text.chars().filter(|c| !c.is_control()).take(500).collect())
        }
    }

    /// Whether asking once more may help, since nothing was done.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy | Self::NotReady)
    }
}

impl From<IncusError> for EngineError {
    fn from(error: IncusError) -> Self {
        let text = error.to_string();
        match error {
            IncusError::Missing => Self::Missing,
            IncusError::Away => Self::Away { reason: text },
            IncusError::Unreachable { .. }
            | IncusError::TimedOut(_)
            | IncusError::Broken(_)
            | IncusError::NotReady => {
                tracing::warn!(error = text, "the cluster does not answer");
                Self::Away { reason: "the cluster that it is on does not answer".to_owned() }
            }
            IncusError::Refused(ref said) if is_full(said) => {
                tracing::warn!(error = text, "the cluster has no room");
                Self::NoRoom { reason: "the cluster has no room for it".to_owned() }
            }
            IncusError::File { .. } | IncusError::Busy | IncusError::Refused(_) | IncusError::Odd(_) => {
                Self::Broken { reason: text }
            }
        }
    }
}

fn is_full(said: &str) -> bool {
    ["No space left", "no space left", "quota exceeded", "Quota exceeded", "No suitable cluster member"]
        .iter()
        .any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_incus_mean_something() {
        let told = |text| IncusError::told(500, text);
        assert_eq!(IncusError::told(404, "Instance not found"), IncusError::Missing);
        assert_eq!(told("Instance is busy running a \"stop\" operation"), IncusError::Busy);
        assert_eq!(
            told("Failed to create instance update operation: Instance is busy running a \"stop\" operation"),
            IncusError::Busy
        );
        assert_eq!(
            told(
                "Failed to fetch http://unix.socket/1.0: dial tcp 10.77.0.12:8443: connect: no route to host"
            ),
            IncusError::Away
        );
        assert_eq!(told("Missing event connection with target cluster member"), IncusError::Away);
        assert_eq!(told("Server isn't ready yet"), IncusError::NotReady);
        assert_eq!(
            told("The instance is already stopped"),
            IncusError::Refused("The instance is already stopped".into())
        );
    }

    #[test]
    fn members_are_told_what_it_means_for_them() {
        let full = IncusError::Refused("write /x: no space left on device".into());
        assert!(matches!(EngineError::from(full), EngineError::NoRoom { .. }));
        assert!(matches!(EngineError::from(IncusError::Away), EngineError::Away { .. }));
        let lost = IncusError::Unreachable { address: "10.0.0.1:8443".into(), reason: "refused".into() };
        let told = EngineError::from(lost).to_string();
        assert!(!told.contains("10.0.0.1"), "addresses are the operator's: {told}");
    }
}
