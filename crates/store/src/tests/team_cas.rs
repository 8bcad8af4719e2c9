//! The authorities of a team, and what they have taken back.

use super::{at, koding, public_key, stores_with_accounts};
use crate::{AddedTeamCa, MAX_TEAM_CAS};

#[tokio::test]
async fn they_come_once_each_in_order_and_go() {
    for store in stores_with_accounts().await {
        let team = koding();
        let add =
            async |number| store.add_team_ca(&team, &public_key(number), "office", at(1)).await.unwrap();
        assert_eq!(store.team_cas(&team).await.unwrap(), []);
        assert_eq!(add(1).await, AddedTeamCa::Added);
        assert_eq!(add(1).await, AddedTeamCa::AlreadyThere);
        for number in 2..=MAX_TEAM_CAS {
            assert_eq!(add(u8::try_from(number).unwrap()).await, AddedTeamCa::Added);
        }
        assert_eq!(add(100).await, AddedTeamCa::TooMany);
        let rows = store.team_cas(&team).await.unwrap();
        assert_eq!((rows.len(), rows[0].id, rows[0].added_at), (MAX_TEAM_CAS, 1, at(1)));
        assert_eq!((&rows[0].key, rows[0].label.as_str()), (&public_key(1), "office"));
        assert!(store.remove_team_ca(1).await.unwrap());
        assert!(!store.remove_team_ca(1).await.unwrap());
        assert_eq!(add(1).await, AddedTeamCa::Added);
        let ids: Vec<i64> = store.team_cas(&team).await.unwrap().iter().map(|row| row.id).collect();
        assert_eq!((ids[0], *ids.last().unwrap()), (2, 9), "an id is not given twice");
        assert_eq!(store.team_cas(&"elsewhere".parse().unwrap()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn there_is_one_list_which_is_replaced() {
    for store in stores_with_accounts().await {
        let team = koding();
        assert_eq!(store.team_krl(&team).await.unwrap(), None);
        for (number, krl) in [(1, &[0, 255, 7][..]), (2, b"another")] {
            store.set_team_krl(&team, krl, at(number)).await.unwrap();
            assert_eq!(store.team_krl(&team).await.unwrap(), Some((krl.to_vec(), at(number))));
        }
    }
}
