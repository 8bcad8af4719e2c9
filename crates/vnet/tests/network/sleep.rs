//! Guests that sleep, and streams that do not notice. Time is paused: it passes when everybody waits.

use std::{io, time::Duration};

use crate::guest::{App, Guest, Listener, Record, Stopped, is_pattern, pattern};
use berth_vnet::{DialError, Network, Stream};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

const LONG: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);
/// A moment that nobody minds; far less than any timer of TCP.
const SOON: Duration = Duration::from_millis(50);

fn boot(listeners: &[Listener]) -> (Network, Guest) {
    let network = Network::spawn(&TaskTracker::new());
    let guest = boot_on(&network, listeners);
    (network, guest)
}

fn boot_on(network: &Network, listeners: &[Listener]) -> Guest {
    let (host, qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    Guest::boot(qemu, listeners)
}

/// Puts it to sleep, to the end of its QEMU.
async fn put_to_sleep(network: &Network, guest: Guest) -> Stopped {
    let mut guest = guest.stop().await;
    network.freeze().await;
    guest.quit();
    guest
}

fn wake(network: &Network, guest: Stopped) -> Guest {
    let (host, qemu) = UnixStream::pair().unwrap();
    network.reattach(host);
    guest.wake(qemu)
}

async fn echo_of(stream: &mut Stream, key: u8) {
    stream.write_u8(key).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), key);
}

async fn echoing() -> (Network, Guest, Stream) {
    let (network, guest) = boot(&[Listener::new(7, App::Echo)]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    echo_of(&mut stream, 0).await;
    sleep(SOON).await;
    (network, guest, stream)
}

#[tokio::test(start_paused = true)]
async fn an_hour_asleep_is_not_noticed() {
    let (network, guest, mut stream) = echoing().await;
    assert!(!network.is_pending());
    let guest = put_to_sleep(&network, guest).await;
    assert!(!network.is_pending() && !network.is_called());
    assert!(timeout(HOUR, network.called()).await.is_err(), "nobody called");
    assert!(timeout(HOUR, stream.read_u8()).await.is_err(), "the stream is as it was");
    let _guest = wake(&network, guest);
    timeout(SOON, echo_of(&mut stream, 1)).await.unwrap();
    timeout(SOON, network.dial(7, LONG)).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_calls_and_is_echoed_soon_after_the_wake() {
    let (network, guest, mut stream) = echoing().await;
    let guest = put_to_sleep(&network, guest).await;
    let key = async {
        sleep(HOUR).await;
        stream.write_u8(9).await.unwrap();
    };
    let (called, ()) = tokio::join!(timeout(2 * HOUR, network.called()), key);
    called.unwrap();
    assert!(network.is_called() && network.is_pending());
    let _guest = wake(&network, guest);
    assert!(!network.is_called());
    assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), 9);
}

#[tokio::test(start_paused = true)]
async fn an_end_calls_and_is_delivered() {
    let (network, guest, mut stream) = echoing().await;
    let guest = put_to_sleep(&network, guest).await;
    stream.shutdown().await.unwrap();
    timeout(SOON, network.called()).await.unwrap();
    let _guest = wake(&network, guest);
    assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drop_calls_and_lingers_in_the_guests_time() {
    const LENGTH: usize = 600_000;
    let (network, guest) = boot(&[Listener { buffer: 16 << 10, ..Listener::new(7, App::Echo) }]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    let mut unfinished = network.dial(7, LONG).await.unwrap();
    echo_of(&mut stream, 0).await;
    let guest = put_to_sleep(&network, guest).await;
    unfinished.write_all(&vec![1; LENGTH]).await.unwrap();
    drop((stream, unfinished));
    timeout(SOON, network.called()).await.unwrap();
    assert!(timeout(HOUR, network.deserted()).await.is_err(), "nothing can be delivered");
    assert_eq!(network.streams(), 2);
    let guest = wake(&network, guest);
    timeout(SOON, network.deserted()).await.unwrap();
    let records = guest.until(|records| records.iter().all(|record| record.reset)).await;
    assert_eq!(records.iter().map(|record| record.received).collect::<Vec<_>>(), [1, LENGTH]);
}

#[tokio::test(start_paused = true)]
async fn what_the_guests_program_does_not_take_is_waited_for_in_vain_but_kept() {
    const LENGTH: usize = 100_000;
    let (network, guest) = boot(&[Listener { buffer: 16 << 10, ..Listener::new(7, App::Deaf) }]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    stream.write_all(&vec![1; LENGTH]).await.unwrap();
    sleep(SOON).await;
    assert!(network.is_pending(), "it may be taken in a moment");
    sleep(Duration::from_secs(9)).await;
    assert!(network.is_pending());
    stream.write_u8(2).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(network.is_pending(), "somebody has just written");
    sleep(Duration::from_secs(11)).await;
    assert!(!network.is_pending());
    let guest = put_to_sleep(&network, guest).await;
    assert!(!network.is_pending() && !network.is_called());
    let guest = wake(&network, guest);
    sleep(SOON).await;
    let records = guest.records();
    assert!(records[0].received < LENGTH && !records[0].reset);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_news_for_the_guest_does_not_call() {
    let (network, guest) = boot(&[Listener::new(7, App::Echo), Listener::new(9, App::Pattern(100))]);
    let mut over = network.dial(7, LONG).await.unwrap();
    over.shutdown().await.unwrap();
    let mut half = network.dial(7, LONG).await.unwrap();
    half.write_all(b"unread").await.unwrap();
    let mut shut = network.dial(9, LONG).await.unwrap();
    shut.write_all(b"").await.unwrap();
    sleep(SOON).await;
    shut.shutdown().await.unwrap();
    sleep(SOON).await;
    let guest = put_to_sleep(&network, guest).await;
    assert!(!network.is_pending());
    assert_eq!(network.streams(), 3);

    let mut unread = [0; 6];
    half.read_exact(&mut unread).await.unwrap();
    assert_eq!(&unread, b"unread");
    shut.shutdown().await.unwrap();
    drop((over, shut));
    assert_eq!(timeout(SOON, network.dial(7, LONG)).await.unwrap().unwrap_err(), DialError::Detached);
    assert!(timeout(HOUR, network.called()).await.is_err());
    assert_eq!(network.streams(), 1);
    let _guest = wake(&network, guest);
    timeout(SOON, echo_of(&mut half, 1)).await.unwrap();
}

/// However long the guest had not answered before: a second, or the longest pause that TCP makes.
#[tokio::test(start_paused = true)]
async fn what_was_lost_with_qemu_is_sent_again_soon_after_the_wake() {
    for silence in [Duration::from_millis(5), Duration::from_secs(50), HOUR] {
        let (network, guest, mut stream) = echoing().await;
        let mut guest = guest.stop().await;
        stream.write_u8(3).await.unwrap();
        sleep(silence).await;
        network.freeze().await;
        assert!(network.is_pending(), "the guest has not got it");
        assert!(!network.is_called(), "but it is not new");
        guest.quit();
        sleep(HOUR).await;
        let _guest = wake(&network, guest);
        assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), 3, "after {silence:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_guest_said_last_is_heard() {
    for yields in 0..40 {
        let (network, guest, mut stream) = echoing().await;
        stream.write_all(&[7; 100_000]).await.unwrap();
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let echoed = guest.records()[0].received - 1;
        let _guest = put_to_sleep(&network, guest).await;
        let mut received = vec![0; echoed];
        timeout(SOON, stream.read_exact(&mut received)).await.expect("it was on the wire").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_is_given_up_costs_nothing() {
    let (network, guest, mut stream) = echoing().await;
    let guest = guest.stop().await;
    let late = {
        let network = network.clone();
        async move { network.dial(7, LONG).await }
    };
    let mut dials = JoinSet::new();
    dials.spawn(late);
    stream.write_u8(4).await.unwrap();
    sleep(Duration::from_millis(10)).await;
    network.freeze().await;
    assert!(network.is_pending());
    // Long enough for the dial to try the other family.
    sleep(Duration::from_secs(5)).await;
    network.thaw();
    let _guest = guest.cont();
    assert_eq!(timeout(SOON, stream.read_u8()).await.unwrap().unwrap(), 4);
    let mut dialled = timeout(SOON, dials.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    timeout(SOON, echo_of(&mut dialled, 5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dial_alone_is_a_reason_to_stay_awake() {
    let (network, guest, stream) = echoing().await;
    let guest = guest.stop().await;
    let dial = network.dial(7, Duration::from_secs(2));
    tokio::pin!(dial);
    assert!(timeout(SOON, &mut dial).await.is_err());
    network.freeze().await;
    assert!(network.is_pending());
    assert_eq!(dial.await.unwrap_err(), DialError::TimedOut);
    drop((guest, stream));
}

#[tokio::test(start_paused = true)]
async fn a_stream_takes_a_buffer_full_and_no_more() {
    let (network, guest, mut stream) = echoing().await;
    let guest = put_to_sleep(&network, guest).await;
    let mut sent = 0;
    while let Ok(written) = timeout(SOON, stream.write(pattern(sent, 100_000))).await {
        sent += written.unwrap();
    }
    assert_eq!(sent, 0xffff << 4);
    let _guest = wake(&network, guest);
    let mut received = vec![0; sent];
    timeout(LONG, stream.read_exact(&mut received)).await.unwrap().unwrap();
    assert!(is_pattern(0, &received));
}

async fn is_reset(stream: &mut Stream) -> bool {
    let error = timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    error.kind() == io::ErrorKind::ConnectionReset
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_away_after_its_wake_resets_its_streams() {
    let (network, guest, mut stream) = echoing().await;
    let guest = put_to_sleep(&network, guest).await;
    let guest = wake(&network, guest);
    timeout(SOON, echo_of(&mut stream, 1)).await.unwrap();
    guest.power_off().await;
    assert!(is_reset(&mut stream).await);
}

#[tokio::test(start_paused = true)]
async fn thawed_without_its_qemu_it_resets_its_streams() {
    let (network, guest, mut stream) = echoing().await;
    let _guest = put_to_sleep(&network, guest).await;
    network.thaw();
    assert!(is_reset(&mut stream).await);
    assert_eq!(network.dial(7, LONG).await.unwrap_err(), DialError::Detached);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_that_is_forgotten_resets_its_streams() {
    let (network, guest, mut stream) = echoing().await;
    let _guest = put_to_sleep(&network, guest).await;
    network.detach();
    assert!(is_reset(&mut stream).await);
    assert_eq!(network.dial(7, LONG).await.unwrap_err(), DialError::Detached);
    drop(stream);
    timeout(SOON, network.deserted()).await.unwrap();

    // What boots instead is a new guest.
    let _guest = boot_on(&network, &[Listener::new(8, App::Echo)]);
    let mut stream = network.dial(8, LONG).await.unwrap();
    timeout(SOON, echo_of(&mut stream, 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_new_guest_ends_the_freeze_and_the_streams_of_the_old() {
    let (network, guest, mut stream) = echoing().await;
    let _guest = put_to_sleep(&network, guest).await;
    let _guest = boot_on(&network, &[Listener::new(8, App::Echo)]);
    assert!(is_reset(&mut stream).await);
    let mut stream = network.dial(8, LONG).await.unwrap();
    timeout(SOON, echo_of(&mut stream, 1)).await.unwrap();
}

/// A new shim wakes what another had put to sleep.
#[tokio::test(start_paused = true)]
async fn a_guest_that_another_network_knew_is_reached() {
    let (network, guest, stream) = echoing().await;
    let guest = put_to_sleep(&network, guest).await;
    drop((network, stream));
    let network = Network::spawn(&TaskTracker::new());
    let guest = wake(&network, guest);
    let mut stream = timeout(LONG, network.dial(7, LONG)).await.unwrap().unwrap();
    timeout(SOON, echo_of(&mut stream, 1)).await.unwrap();
    assert_eq!(guest.records().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_network_ends_with_its_last_handle() {
    let tracker = TaskTracker::new();
    let network = Network::spawn(&tracker);
    let guest = boot_on(&network, &[Listener::new(7, App::Echo)]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    let _guest = put_to_sleep(&network, guest).await;
    stream.write_all(b"nobody will take this").await.unwrap();
    tracker.close();
    drop((network, stream));
    timeout(SOON, tracker.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn freezing_twice_or_without_a_guest_is_no_harm() {
    let network = Network::spawn(&TaskTracker::new());
    timeout(SOON, network.freeze()).await.unwrap();
    network.thaw();
    network.thaw();
    let guest = boot_on(&network, &[Listener::new(7, App::Echo)]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    let guest = put_to_sleep(&network, guest).await;
    timeout(SOON, network.freeze()).await.unwrap();
    let _guest = wake(&network, guest);
    timeout(SOON, echo_of(&mut stream, 1)).await.unwrap();
}

async fn exchange_patterns(stream: Stream, length: usize) -> (impl Sized, impl Sized) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        let mut buffer = vec![0; 128 << 10];
        let mut received = 0;
        while received < length {
            let count = reader.read(&mut buffer).await.unwrap();
            assert!(count > 0 && is_pattern(received, &buffer[..count]), "wrong byte after {received}");
            received += count;
        }
    };
    let write = async {
        let mut sent = 0;
        while sent < length {
            sent += writer.write(pattern(sent, length - sent)).await.unwrap();
        }
    };
    tokio::join!(read, write);
    (reader, writer)
}

#[tokio::test(start_paused = true)]
async fn fifty_sleeps_with_traffic_both_ways_lose_no_byte() {
    const LENGTH: usize = 24 << 20;
    let (network, mut guest) = boot(&[Listener { backlog: 8, ..Listener::new(9, App::Pattern(usize::MAX)) }]);
    let mut exchanges = JoinSet::new();
    for _ in 0..8 {
        let stream = network.dial(9, LONG).await.unwrap();
        exchanges.spawn(exchange_patterns(stream, LENGTH));
    }
    let mut streams = Vec::new();
    let mut sleeps = 0_u32;
    while !exchanges.is_empty() {
        for _ in 0..(sleeps * 37) % 101 {
            tokio::task::yield_now().await;
        }
        let mut stopped = guest.stop().await;
        network.freeze().await;
        let given_up = sleeps.is_multiple_of(5);
        if !given_up {
            stopped.quit();
        }
        sleep(HOUR).await;
        guest = if given_up {
            network.thaw();
            stopped.cont()
        } else {
            wake(&network, stopped)
        };
        // The guest's own retransmissions are after its time. Unlike sleeping, this does not wait for silence.
        tokio::time::advance(Duration::from_secs(1)).await;
        while let Some(done) = exchanges.try_join_next() {
            streams.push(done.unwrap());
        }
        sleeps += 1;
        assert!(sleeps < 5000, "it gets nowhere");
    }
    assert!(sleeps >= 50, "only {sleeps} sleeps");
    let whole = |record: &Record| record.received == LENGTH;
    let records = guest.until(|records| records.iter().all(whole)).await;
    assert_eq!(records, vec![Record { received: LENGTH, ..Default::default() }; 8]);
}

#[derive(Debug, Clone)]
enum Act {
    Write(usize, usize),
    Yield(usize),
    Wait(u64),
    Sleep { loses: bool, writes: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3_usize, prop_oneof![3 => 1..10_usize, 1 => 1..200_000_usize])
            .prop_map(|(stream, count)| Act::Write(stream, count)),
        2 => (0..100_usize).prop_map(Act::Yield),
        2 => (0..3000_u64).prop_map(Act::Wait),
        3 => (any::<bool>(), prop_oneof![Just(0), 1..100_usize])
            .prop_map(|(loses, writes)| Act::Sleep { loses, writes }),
    ]
}

async fn play(acts: Vec<Act>) {
    let (network, mut guest) = boot(&[Listener::new(7, App::Echo)]);
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..3 {
        let (reader, writer) = tokio::io::split(network.dial(7, LONG).await.unwrap());
        readers.push(reader);
        writers.push((writer, 0));
    }
    let mut echoes = JoinSet::new();
    for mut reader in readers {
        echoes.spawn(async move {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            received
        });
    }
    for act in acts {
        match act {
            Act::Write(stream, count) => {
                let (writer, sent) = &mut writers[stream];
                let data = pattern(*sent, count);
                // What the buffer has no room for is left.
                if let Ok(written) = timeout(Duration::from_millis(1), writer.write(data)).await {
                    *sent += written.unwrap();
                }
            }
            Act::Yield(count) => {
                for _ in 0..count {
                    tokio::task::yield_now().await;
                }
            }
            Act::Wait(millis) => sleep(Duration::from_millis(millis)).await,
            Act::Sleep { loses, writes } => {
                let mut stopped = guest.stop().await;
                network.freeze().await;
                let (writer, sent) = &mut writers[0];
                if let Ok(written) = timeout(HOUR, writer.write(pattern(*sent, writes))).await {
                    let written = written.unwrap();
                    *sent += written;
                    assert_eq!(network.is_called(), written > 0);
                }
                guest = if loses {
                    stopped.quit();
                    wake(&network, stopped)
                } else {
                    network.thaw();
                    stopped.cont()
                };
            }
        }
    }
    // All retransmissions are over. A FIN behind old data would be overlooked by the guest's smoltcp.
    sleep(10 * Duration::from_secs(60)).await;
    let mut sent = Vec::new();
    for (writer, count) in &mut writers {
        writer.shutdown().await.unwrap();
        sent.push(*count);
    }
    let echoed = timeout(SOON, echoes.join_all()).await.expect("all is echoed");
    assert!(echoed.iter().all(|echo| is_pattern(0, echo)));
    let mut echoed: Vec<_> = echoed.iter().map(Vec::len).collect();
    sent.sort_unstable();
    echoed.sort_unstable();
    assert_eq!(sent, echoed);
    drop(writers);
    timeout(SOON, network.deserted()).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn no_way_to_sleep_loses_a_byte(acts in vec(act(), 1..25)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(play(acts));
    }
}
