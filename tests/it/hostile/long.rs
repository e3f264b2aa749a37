//! Peers that go on for long: floods of frames that cost little, windows that open byte by byte, whoever reads nothing, and
//! numbers of streams that run out.

use std::time::{Duration, Instant};

use super::{TIMED_OUT, abandoned, street};
use crate::support::attack::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INFER, PING, PRIORITY, Raw, SETTINGS, call, frame,
    message, open_call, setting, window,
};
use crate::support::process::{LONG, Model, Sidecar, beside, infer, one};

#[tokio::test]
async fn floods_of_settings_windows_and_priorities_hold_no_memory() {
    let (_model, sidecar, neighbour) = street("").await;
    let before = sidecar.resident();
    let priority = frame(PRIORITY, 0, 1001, &[0, 0, 0, 0, 16]);
    let floods = [setting(4, 65_535), window(0, 1), priority, frame(0xfa, 0, 0, &[7; 8])];
    for (index, flood) in floods.iter().enumerate() {
        let mut raw = Raw::greet(sidecar.data, &[]).await;
        let many = flood.repeat(1000);
        for _ in 0..20 {
            raw.write(&many).await;
        }
        // SETTINGS are owed an answer, the others none.
        let answered = raw.read_until(|raw| index > 0 || raw.count(SETTINGS) >= 20_000, LONG).await;
        assert!(answered || raw.closed, "flood {index}: {} answers", raw.count(SETTINGS));
    }
    let mut deaf = Raw::greet(sidecar.data, &[]).await;
    let most = 64 << 20;
    let taken = deaf.flood_deaf(&setting(4, 65_535).repeat(1000), most).await;
    assert!(taken < most, "SETTINGS are taken for ever though no answer is read");
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn whoever_reads_nothing_of_what_waits_is_sent_away_and_whoever_reads_slowly_is_not() {
    let (_model, sidecar, neighbour) = street("limits: {stall: 1s}\n").await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    let mut deaf = Raw::greet(sidecar.data, &[]).await;
    while deaf.write_deaf(&pings, Duration::from_millis(300)).await == pings.len() {}
    let start = Instant::now();
    // Neither is one byte of what waits read, nor is anything said.
    sidecar.counts(TIMED_OUT, 1).await;
    assert!(start.elapsed() > Duration::from_millis(300), "too early: {:?}", start.elapsed());

    // It reads a little now and then, for as long as the other had. The kernel holds some megabytes on the way.
    let mut slow = Raw::greet(sidecar.data, &[]).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        slow.write_deaf(&pings, Duration::from_millis(50)).await;
        slow.read_until(|_| false, Duration::from_millis(100)).await;
    }
    assert!(!slow.closed);
    assert_eq!(sidecar.metric(TIMED_OUT).await, 1);
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn a_window_that_opens_byte_by_byte_saves_no_stream() {
    let (model, sidecar, neighbour) = street("limits: {stall: 1s}\n").await;
    let before = sidecar.resident();
    let mut raw = Raw::greet(sidecar.data, &setting(4, 0)).await;
    let all = (0..20).map(|n| 2 * n + 1).collect::<Vec<u32>>();
    for stream in &all {
        raw.write(&open_call(*stream, "size:2000000")).await;
        raw.write(&frame(DATA, END_STREAM, *stream, &[])).await;
    }
    let start = Instant::now();
    let mut most = 0;
    while all.iter().any(|stream| raw.reset_of(*stream).is_none() && !raw.ended(*stream)) {
        assert!(start.elapsed() < LONG, "streams are held as long as a byte of them is taken now and then");
        for stream in &all {
            raw.write(&window(*stream, 1)).await;
        }
        raw.read_until(|_| false, Duration::from_millis(200)).await;
        most = most.max(sidecar.resident().saturating_sub(before));
    }
    assert!(most < 20 * 1536, "{most} KiB");
    let data = raw.frames.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len());
    assert!(data.sum::<usize>() >= 20, "no byte came through");
    sidecar.counts("parhelion_stalls_total", 20).await;
    abandoned(&model).await;
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn the_last_number_of_a_stream_is_served_as_any_other() {
    let (_model, sidecar, neighbour) = street("").await;
    let mut raw = Raw::greet(sidecar.data, &[]).await;
    for stream in [1, 0x7fff_fffd, 0x7fff_ffff] {
        raw.write(&frame(HEADERS, END_HEADERS, stream, &call(INFER, &[]))).await;
        raw.write(&frame(DATA, END_STREAM, stream, &message("last"))).await;
        assert!(raw.read_until(|raw| raw.ended(stream), LONG).await, "{stream}");
    }
    assert_eq!(raw.count(GOAWAY), 0);
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn connections_to_a_server_are_replaced_before_their_numbers_run_out() {
    let model = Model::start("1.0.0");
    let set = [("PARHELION_FAILPOINTS", "upstream.streams=5")];
    let sidecar = Sidecar::start_with(&one(model.address), &set, None).await;
    sidecar.become_ready().await;
    let client = sidecar.client();
    for round in 0..10 {
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let client = client.clone();
                beside(async move { infer(&client, "").await })
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            assert!(answer.is_ok(), "round {round}: {answer:?}");
        }
    }
    let connected = sidecar.metric("parhelion_upstream_connections_total{event=\"connected\"}").await;
    assert!(connected >= 3, "{connected} connections");
    assert_eq!(model.calls(), 400);
}
