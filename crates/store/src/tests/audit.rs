//! The audit trail.

use std::{net::IpAddr, time::Duration};

use berth_model::AccountName;

use super::{alice, at, bob, stores};
use crate::{AUDIT_PAGE, AuditEntry, AuditKind, AuditQuery, AuditRow, NewAudit, Store, Traffic, Way};

fn event(kind: AuditKind, subject: &str) -> NewAudit {
    NewAudit {
        kind,
        account: Some(alice()),
        actor: Some(alice()),
        way: Way::Web,
        address: Some(IpAddr::from([192, 0, 2, 1])),
        subject: subject.to_owned(),
        detail: String::new(),
    }
}

async fn add(store: &Store, new: &NewAudit, seconds: i64) {
    store.add_audits(&[new.clone().into()], at(seconds)).await.unwrap();
}

async fn found(store: &Store, query: AuditQuery) -> Vec<AuditRow> {
    store.audit(&query).await.unwrap()
}

#[tokio::test]
async fn a_line_comes_back_as_it_was_written_the_latest_first() {
    for store in stores().await {
        let nobody = NewAudit {
            kind: AuditKind::LogInRefused,
            account: None,
            actor: None,
            address: None,
            way: Way::Host,
            ..event(AuditKind::LogIn, "")
        };
        let lines = [event(AuditKind::VmAdded, "vm-0.alice.koding"), nobody];
        for (seconds, line) in [0, 1].into_iter().zip(&lines) {
            add(&store, line, seconds).await;
        }
        let rows = found(&store, AuditQuery::default()).await;
        assert_eq!(rows.iter().map(|row| row.what.clone()).rev().collect::<Vec<_>>(), lines);
        assert_eq!((rows[1].at, rows[1].last_at, rows[1].times), (at(0), at(0), 1));
        assert!(rows[0].id > rows[1].id);
    }
}

#[tokio::test]
async fn lines_are_found_by_everything_that_is_asked_for() {
    for store in stores().await {
        add(&store, &event(AuditKind::VmAdded, "vm-0.alice.koding"), 0).await;
        add(&store, &NewAudit { account: Some(bob()), ..event(AuditKind::VmRemoved, "100%_Sure!") }, 10)
            .await;
        add(&store, &NewAudit { actor: Some(bob()), ..event(AuditKind::VmRemoved, "vm-1.alice.koding") }, 20)
            .await;
        let subjects = async |query| -> Vec<String> {
            found(&store, query).await.into_iter().map(|row| row.what.subject).collect()
        };
        let (zero, sure, one) = ("vm-0.alice.koding", "100%_Sure!", "vm-1.alice.koding");
        let text = |text: &str| AuditQuery { text: Some(text.to_owned()), ..AuditQuery::default() };
        let all = AuditQuery::default;
        assert_eq!(subjects(AuditQuery { about: Some(alice()), ..all() }).await, [one, zero]);
        assert_eq!(subjects(AuditQuery { by: Some(bob()), ..all() }).await, [one]);
        assert_eq!(subjects(AuditQuery { kind: Some(AuditKind::VmRemoved), ..all() }).await, [one, sure]);
        assert_eq!(subjects(AuditQuery { since: Some(at(10)), until: Some(at(20)), ..all() }).await, [sure]);
        assert_eq!(subjects(text("0%_SURE!")).await, [sure]);
        assert_eq!(subjects(text("192.0.2")).await, [one, sure, zero]);
        assert_eq!(subjects(text("bob")).await, [one, sure]);
        for nothing in ["%%%%", "vm_0", "' OR 1=1 --", "x"] {
            assert_eq!(subjects(text(nothing)).await, Vec::<String>::new(), "{nothing}");
        }
        assert_eq!(subjects(text("")).await.len(), 3);
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    for store in stores().await {
        for number in 0..i64::try_from(2 * AUDIT_PAGE).unwrap() + 1 {
            add(&store, &event(AuditKind::VmAdded, &number.to_string()), number).await;
        }
        let (mut before, mut seen) = (None, vec![]);
        for expected in [AUDIT_PAGE, AUDIT_PAGE, 1, 0] {
            let page = found(&store, AuditQuery { before, ..AuditQuery::default() }).await;
            assert_eq!(page.len(), expected);
            before = page.last().map(|row| row.id).or(before);
            seen.extend(page.into_iter().map(|row| row.what.subject.parse::<usize>().unwrap()));
        }
        assert!(seen.iter().copied().eq((0..=2 * AUDIT_PAGE).rev()));
    }
}

#[tokio::test]
async fn log_ins_that_are_alike_are_one_line_for_an_hour_and_nothing_else_is() {
    for store in stores().await {
        let log_in = event(AuditKind::LogIn, "SHA256:a");
        let elsewhere = NewAudit { address: Some(IpAddr::from([192, 0, 2, 2])), ..log_in.clone() };
        let nobody = NewAudit { account: None, actor: None, ..event(AuditKind::LogInRefused, "") };
        for seconds in [0, 1, 3599] {
            add(&store, &log_in, seconds).await;
            add(&store, &nobody, seconds).await;
        }
        add(&store, &elsewhere, 3599).await;
        add(&store, &log_in, 3600).await;
        for seconds in [3600, 3601] {
            add(&store, &event(AuditKind::VmStarted, "vm-0"), seconds).await;
        }
        let rows = found(&store, AuditQuery::default()).await;
        let lines: Vec<_> = rows.iter().rev().map(|row| (row.what.kind, row.times, row.last_at)).collect();
        assert_eq!(
            lines,
            [
                (AuditKind::LogIn, 3, at(3599)),
                (AuditKind::LogInRefused, 3, at(3599)),
                (AuditKind::LogIn, 1, at(3599)),
                (AuditKind::LogIn, 1, at(3600)),
                (AuditKind::VmStarted, 1, at(3600)),
                (AuditKind::VmStarted, 1, at(3601)),
            ]
        );
    }
}

#[tokio::test]
async fn connections_that_are_alike_are_one_line_with_the_sum() {
    for store in stores().await {
        let entry = |actor: AccountName, began, sent| AuditEntry {
            began: Some(at(began)),
            traffic: Some(Traffic { sent, received: 10 * sent, lasted: Duration::from_secs(5) }),
            ..NewAudit { actor: Some(actor), ..event(AuditKind::Connection, "vm-0.alice.koding") }.into()
        };
        store
            .add_audits(&[entry(alice(), 0, 1), entry(alice(), 3, 2), entry(bob(), 4, 4)], at(9))
            .await
            .unwrap();
        store.add_audits(&[entry(alice(), 20, 8)], at(25)).await.unwrap();
        store.add_audits(&[entry(alice(), 10, 16)], at(4000)).await.unwrap();
        let rows = found(&store, AuditQuery::default()).await;
        let said: Vec<_> = rows
            .iter()
            .rev()
            .map(|row| {
                (row.what.actor.clone().unwrap(), row.times, row.at, row.last_at, row.traffic.unwrap())
            })
            .collect();
        let sum = |sent, seconds| Traffic { sent, received: 10 * sent, lasted: Duration::from_secs(seconds) };
        assert_eq!(
            said,
            [
                (alice(), 3, at(0), at(25), sum(11, 15)),
                (bob(), 1, at(4), at(9), sum(4, 5)),
                (alice(), 1, at(10), at(4000), sum(16, 5)),
            ]
        );
    }
}

#[tokio::test]
async fn what_was_only_counted_is_one_line_too() {
    for store in stores().await {
        let what =
            NewAudit { account: None, actor: None, address: None, ..event(AuditKind::LogInRefused, "") };
        let counted = AuditEntry { times: 500, ..what.into() };
        store.add_audits(std::slice::from_ref(&counted), at(0)).await.unwrap();
        store.add_audits(&[counted], at(60)).await.unwrap();
        let rows = found(&store, AuditQuery::default()).await;
        assert_eq!((rows.len(), rows[0].times, rows[0].traffic), (1, 1000, None));
    }
}

#[tokio::test]
async fn old_lines_are_cleared_away_and_those_of_strangers_sooner() {
    for store in stores().await {
        let day = 24 * 3600;
        add(&store, &event(AuditKind::VmAdded, "old"), 0).await;
        add(&store, &event(AuditKind::LogInRefused, "refused"), 300 * day).await;
        add(&store, &event(AuditKind::LogIn, "logged in"), 300 * day).await;
        for _ in 3..255 {
            add(&store, &event(AuditKind::VmAdded, "new"), 401 * day).await;
        }
        let query = |subject: &str| AuditQuery { text: Some(subject.to_owned()), ..AuditQuery::default() };
        assert_eq!(found(&store, query("old")).await.len(), 1);
        add(&store, &event(AuditKind::VmAdded, "last"), 401 * day).await;
        for (subject, left) in [("old", 0), ("refused", 0), ("logged in", 1), ("last", 1)] {
            assert_eq!(found(&store, query(subject)).await.len(), left, "{subject}");
        }
    }
}

#[tokio::test]
async fn long_texts_are_cut() {
    for store in stores().await {
        let long = NewAudit { detail: "ä".repeat(1000), ..event(AuditKind::VmAdded, &"ö".repeat(1000)) };
        add(&store, &long, 0).await;
        let what = &found(&store, AuditQuery::default()).await[0].what;
        assert_eq!((what.subject.chars().count(), what.detail.chars().count()), (300, 300));
    }
}
