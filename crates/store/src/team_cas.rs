//! The authorities whose certificates let members of a team in, and what of them was taken back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::{PublicKey, TeamName};
use time::OffsetDateTime;

use crate::{
    Store, StoreError,
    convert::{time, to_millis, unreadable},
    ids::next_id,
    sql,
};

/// So many authorities can a team have.
pub const MAX_TEAM_CAS: usize = 8;

/// An authority whose certificates let members of a team in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamCaRow {
    /// What names it.
    pub id: i64,
    /// Its key.
    pub key: PublicKey,
    /// What the operator calls it.
    pub label: String,
    /// Since when it counts.
    pub added_at: OffsetDateTime,
}

/// What came of adding an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddedTeamCa {
    /// It counts.
    Added,
    /// The team had it; nothing changed.
    AlreadyThere,
    /// The team has [`MAX_TEAM_CAS`].
    TooMany,
}

impl Store {
    /// A team's authorities, in the order in which they were added.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn team_cas(&self, team: &TeamName) -> Result<Vec<TeamCaRow>, StoreError> {
        let rows: Vec<(i64, String, String, i64)> =
            sql::query_as("SELECT id, public_key, label, added_at FROM team_cas WHERE team = $1 ORDER BY id")
                .bind(team.as_str())
                .fetch_all(self.reader())
                .await?;
        let row = |(id, key, label, added_at): (i64, String, String, i64)| {
            let key = PublicKey::from_openssh(&key).map_err(|source| unreadable("key of a CA", source))?;
            Ok(TeamCaRow { id, key, label, added_at: time("time of a CA", added_at)? })
        };
        rows.into_iter().map(row).collect()
    }

    /// Has an authority's certificates count for a team.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn add_team_ca(
        &self,
        team: &TeamName,
        key: &PublicKey,
        label: &str,
        at: OffsetDateTime,
    ) -> Result<AddedTeamCa, StoreError> {
        let mut tx = self.write().await?;
        let there: Vec<(String,)> = sql::query_as("SELECT fingerprint FROM team_cas WHERE team = $1")
            .bind(team.as_str())
            .fetch_all(&mut tx)
            .await?;
        let fingerprint = key.fingerprint().to_string();
        if there.iter().any(|(other,)| *other == fingerprint) {
            return Ok(AddedTeamCa::AlreadyThere);
        }
        if there.len() >= MAX_TEAM_CAS {
            return Ok(AddedTeamCa::TooMany);
        }
        let id = next_id(&mut tx, "team_cas").await?;
        sql::query(
            "INSERT INTO team_cas (id, team, public_key, fingerprint, label, added_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(team.as_str())
        .bind(key.to_openssh())
        .bind(fingerprint)
        .bind(label)
        .bind(to_millis(at))
        .execute(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(AddedTeamCa::Added)
    }

    /// Has an authority's certificates count no longer; `false` where there is none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_team_ca(&self, id: i64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed = sql::query("DELETE FROM team_cas WHERE id = $1").bind(id).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// A team's key revocation list, as it was loaded; `None` for none.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn team_krl(&self, team: &TeamName) -> Result<Option<(Vec<u8>, OffsetDateTime)>, StoreError> {
        let row: Option<(String, i64)> =
            sql::query_as("SELECT krl, loaded_at FROM team_krls WHERE team = $1")
                .bind(team.as_str())
                .fetch_optional(self.reader())
                .await?;
        let Some((krl, loaded_at)) = row else { return Ok(None) };
        let krl = STANDARD.decode(krl).map_err(|source| unreadable("key revocation list", source))?;
        Ok(Some((krl, time("time of a key revocation list", loaded_at)?)))
    }

    /// Puts a key revocation list in the place of the one that a team had.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn set_team_krl(
        &self,
        team: &TeamName,
        krl: &[u8],
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sql::query(
            "INSERT INTO team_krls (team, krl, loaded_at) VALUES ($1, $2, $3)
             ON CONFLICT (team) DO UPDATE SET krl = excluded.krl, loaded_at = excluded.loaded_at",
        )
        .bind(team.as_str())
        .bind(STANDARD.encode(krl))
        .bind(to_millis(at))
        .execute(&mut tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
