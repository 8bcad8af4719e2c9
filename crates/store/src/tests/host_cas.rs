//! The keys that sign certificates of hosts.

use berth_model::Secret;

use super::{at, stores_with_accounts};
use crate::Store;

async fn seen(store: &Store) -> Vec<(i64, String, bool)> {
    let rows = store.host_cas(&Secret::new("never".into()), at(9)).await.unwrap();
    rows.into_iter().map(|row| (row.id, row.private_key.expose().clone(), row.signs)).collect()
}

#[tokio::test]
async fn one_signs_and_two_are_trusted_while_one_takes_the_place_of_another() {
    for store in stores_with_accounts().await {
        let key = |text: &str| Secret::new(text.to_owned());
        let made = store.host_cas(&key("a"), at(0)).await.unwrap();
        assert_eq!((made.len(), made[0].made_at), (1, at(0)));
        assert_eq!(seen(&store).await, [(1, "a".into(), true)]);

        assert!(store.add_host_ca(&key("b"), at(1)).await.unwrap());
        assert!(!store.add_host_ca(&key("c"), at(1)).await.unwrap(), "there are two");
        assert_eq!(seen(&store).await, [(1, "a".into(), true), (2, "b".into(), false)]);

        assert!(!store.remove_host_ca(1).await.unwrap(), "it signs");
        assert!(!store.use_host_ca(7).await.unwrap());
        assert_eq!(seen(&store).await, [(1, "a".into(), true), (2, "b".into(), false)], "nothing changed");

        assert!(store.use_host_ca(2).await.unwrap());
        assert!(store.remove_host_ca(1).await.unwrap());
        assert!(!store.remove_host_ca(1).await.unwrap());
        assert_eq!(seen(&store).await, [(2, "b".into(), true)]);
    }
}
