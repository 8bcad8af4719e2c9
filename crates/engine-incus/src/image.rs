//! The image that new VMs are made from.

use std::{path::Path, time::Duration};

use hyper::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{engine::IncusEngine, error::IncusError};

/// Some hundred megabytes to a cluster, which unpacks none of them yet.
const SENT_WITHIN: Duration = Duration::from_secs(600);

impl IncusEngine {
    /// Gives the cluster an image, a unified tarball, and has new VMs made from it: the configured alias leads to it. One
    /// that the cluster has is not sent again. VMs that are there keep what they have.
    ///
    /// Takes as much memory as the file is large, and blocks while it reads it.
    ///
    /// # Errors
    /// [`IncusError::File`], or what is between Berth and the cluster.
    pub async fn import(&self, archive: &Path) -> Result<(), IncusError> {
        let bytes = std::fs::read(archive).map_err(|error| IncusError::File {
            path: archive.display().to_string(),
            reason: error.to_string(),
        })?;
        // By which a cluster calls an image.
        let fingerprint = hex::encode(Sha256::digest(&bytes));
        let client = self.client();
        let at = client.path(&format!("/images/{fingerprint}"), &[]);
        match client.look::<serde_json::Value>(&at).await {
            Ok(_) => {}
            Err(IncusError::Missing) => {
                let sent = client.send(&client.path("/images", &[]), bytes.into(), SENT_WITHIN).await?;
                client.end_of(sent, SENT_WITHIN).await?;
            }
            Err(error) => return Err(error),
        }
        let alias = client.path(&format!("/images/aliases/{}", self.image_alias()), &[]);
        match client.set(Method::PUT, &alias, &json!({ "target": fingerprint })).await {
            Err(IncusError::Missing) => {
                let new = json!({ "name": self.image_alias(), "target": fingerprint });
                client.set(Method::POST, &client.path("/images/aliases", &[]), &new).await
            }
            set => set,
        }
    }
}
