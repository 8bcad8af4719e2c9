use proptest::prelude::*;
use tokio::time::advance;

use super::*;

fn alice() -> AccountName {
    "alice".parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Gets it wrong, and tells how long to wait where it may not even try.
fn wrong(penalties: &Penalties, account: &str, from: &str) -> Option<Duration> {
    penalties.begin(account.parse().ok().as_ref(), address(from)).map(drop).err()
}

#[tokio::test(start_paused = true)]
async fn the_pause_grows_to_a_quarter_of_an_hour_and_is_forgotten_in_an_hour() {
    let penalties = Penalties::default();
    for _ in 0..FREE {
        assert_eq!(wrong(&penalties, "alice", "192.0.2.1"), None);
    }
    for seconds in [5, 10, 20, 40, 80, 160, 320, 640, 900, 900] {
        assert_eq!(wrong(&penalties, "alice", "192.0.2.1"), Some(Duration::from_secs(seconds)));
        advance(Duration::from_secs(seconds - 1)).await;
        assert_eq!(
            wrong(&penalties, "alice", "192.0.2.1"),
            Some(Duration::from_secs(1)),
            "asking costs nothing"
        );
        advance(Duration::from_secs(1)).await;
        assert_eq!(wrong(&penalties, "alice", "192.0.2.1"), None);
    }
    advance(FORGOTTEN).await;
    for _ in 0..FREE {
        assert_eq!(wrong(&penalties, "alice", "192.0.2.1"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_one_ends_it_and_an_undecided_one_does_not_count() {
    let penalties = Penalties::default();
    for _ in 0..3 * FREE {
        penalties.begin(Some(&alice()), address("192.0.2.1")).unwrap().undecided();
    }
    for _ in 0..3 {
        for _ in 1..FREE {
            assert_eq!(wrong(&penalties, "alice", "192.0.2.1"), None);
        }
        penalties.begin(Some(&alice()), address("192.0.2.1")).unwrap().right();
    }
    assert_eq!(
        penalties.lock().networks.get(&Network::of(address("192.0.2.1")), Instant::now()).wrong,
        3 * (FREE - 1)
    );
}

#[tokio::test(start_paused = true)]
async fn many_at_once_gain_nothing() {
    let penalties = Penalties::default();
    let tries: Vec<_> = (0..100).map(|_| penalties.begin(Some(&alice()), address("192.0.2.1"))).collect();
    assert_eq!(tries.iter().filter(|one| one.is_ok()).count(), usize::try_from(FREE).unwrap());
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_one_network_and_others_are_not() {
    let penalties = Penalties::default();
    for number in 0..FREE {
        assert_eq!(wrong(&penalties, "alice", &format!("192.0.2.{number}")), None);
        assert_eq!(wrong(&penalties, "alice", &format!("2001:db8:1:{number}::1")), None);
    }
    for from in ["192.0.2.200", "::ffff:192.0.2.7", "2001:db8:1:ffff::"] {
        assert!(wrong(&penalties, "alice", from).is_some(), "{from}");
    }
    for from in ["192.0.3.1", "2001:db8:2::1"] {
        assert_eq!(wrong(&penalties, "alice", from), None, "{from}");
    }
    assert_eq!(wrong(&penalties, "bob", "192.0.2.1"), None, "another account");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_guesses_at_everybody_waits() {
    let penalties = Penalties::default();
    for number in 0..FREE_OF_NETWORK {
        assert_eq!(wrong(&penalties, &format!("user{number}"), "192.0.2.1"), None);
    }
    assert!(wrong(&penalties, "bob", "192.0.2.1").is_some());
    assert_eq!(wrong(&penalties, "bob", "192.0.3.1"), None);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_guessed_at_from_everywhere_leaves_each_network_less_and_its_owner_a_try() {
    let penalties = Penalties::default();
    for number in 0..GUESSING {
        assert_eq!(wrong(&penalties, "alice", &format!("10.0.{number}.1")), None);
    }
    assert_eq!(wrong(&penalties, "alice", "10.9.0.1"), None);
    assert!(wrong(&penalties, "alice", "10.9.0.1").is_some(), "one, not five");
    penalties.begin(Some(&alice()), address("192.0.2.1")).unwrap().right();
    penalties.begin(Some(&alice()), address("192.0.2.1")).unwrap().right();
    assert_eq!(wrong(&penalties, "bob", "10.0.1.1"), None, "others are not guessed at");
}

#[tokio::test(start_paused = true)]
async fn what_is_at_no_account_counts_for_its_network_alone() {
    let penalties = Penalties::default();
    let names = ["", "Ä", "root", "a b", "*"];
    for name in names.iter().cycle().take(FREE_OF_NETWORK as usize) {
        assert_eq!(wrong(&penalties, name, "192.0.2.1"), None);
    }
    assert!(wrong(&penalties, "%", "192.0.2.1").is_some());
    assert_eq!(wrong(&penalties, "%", "192.0.3.1"), None);
    assert!(penalties.lock().pairs.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_has_a_bound_and_the_worst_are_kept() {
    let penalties = Penalties::default();
    for _ in 0..=FREE {
        wrong(&penalties, "alice", "192.0.2.1");
    }
    for number in 0..2 * u32::try_from(MAX_ENTRIES).unwrap() {
        let from = Ipv4Addr::from_bits(0x0a00_0000 + (number << 8));
        let _ = penalties.begin(Some(&alice()), from.into());
    }
    let tables = penalties.lock();
    assert!(tables.pairs.0.len() <= MAX_ENTRIES && tables.networks.0.len() <= MAX_ENTRIES);
    drop(tables);
    assert!(wrong(&penalties, "alice", "192.0.2.1").is_some(), "it was not crowded out");
}

proptest! {
    /// Whatever anybody does from elsewhere, a network that got nothing wrong may try.
    #[test]
    fn nobody_is_locked_out_from_another_network(tries in prop::collection::vec((0..4u8, 0..40u8, 0..3u8), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let penalties = Penalties::default();
            for (account, network, what) in tries {
                let account: AccountName = format!("user{account}").parse().unwrap();
                if let Ok(begun) = penalties.begin(Some(&account), IpAddr::from([10, 0, network, 1])) {
                    match what {
                        0 => begun.right(),
                        1 => begun.undecided(),
                        _ => drop(begun),
                    }
                }
                advance(Duration::from_secs(u64::from(what))).await;
            }
            for account in 0..4 {
                let account: AccountName = format!("user{account}").parse().unwrap();
                assert!(penalties.begin(Some(&account), IpAddr::from([192, 0, 2, 1])).is_ok());
            }
        });
    }
}
