//! Real traffic between namespaces, and exactly as much of it seen: requests, answers, hits, misses, connections, names.
//!
//! Needs root and a kernel that takes the probes; says so and passes where it cannot run.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use gauntlet_probes::frame::{ProcessEventKind, Protocol};
use support::{SERVER, SERVICE, clients, cluster, edges, pod, servers, total, total_l7};

/// Sends one Redis command and reads the answer, which fits one read.
fn redis(stream: &mut TcpStream, command: &str) -> Vec<u8> {
    stream.write_all(command.as_bytes()).unwrap();
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).unwrap();
    answer[..length].to_vec()
}

#[test]
fn every_redis_request_hit_and_miss_is_counted_on_both_sides() {
    let Some(mut cluster) = cluster() else { return };
    let _redis = cluster.redis();
    let work = cluster.client.run(|| {
        let mut stream = TcpStream::connect((SERVER, 6379)).unwrap();
        stream.set_nodelay(true).unwrap();
        assert_eq!(
            redis(&mut stream, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"),
            b"+OK\r\n"
        );
        for _ in 0..70 {
            assert_eq!(redis(&mut stream, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n"), b"$1\r\n1\r\n");
        }
        for _ in 0..30 {
            assert_eq!(redis(&mut stream, "*2\r\n$3\r\nGET\r\n$1\r\nb\r\n"), b"$-1\r\n");
        }
        assert!(redis(&mut stream, "*1\r\n$4\r\nNOPE\r\n").starts_with(b"-ERR"));
    });
    work.join().unwrap();
    let frames = cluster.watch(4);
    for sides in [clients(&frames, 6379), servers(&frames, 6379)] {
        let count = |number: fn(&gauntlet_probes::frame::L7Sample) -> u32| total_l7(&sides, Protocol::Redis, number);
        assert_eq!(count(|l7| l7.requests), 102);
        assert_eq!(count(|l7| l7.responses), 102);
        assert_eq!((count(|l7| l7.hits), count(|l7| l7.misses)), (70, 30));
        // What the server does not know is the caller's mistake.
        assert_eq!((count(|l7| l7.errors), count(|l7| l7.client_errors)), (0, 1));
        assert_eq!(count(|l7| l7.unparsed), 0);
        assert_eq!(count(|l7| u32::try_from(l7.latency.count()).unwrap()), 102);
        assert_eq!(total(&sides, |side| side.connects_opened), 1);
        assert_eq!(total(&sides, |side| side.connects_closed), 1);
        assert!(sides.iter().any(|side| side.srtt_us_median.is_some()));
    }
    let sent: u64 = clients(&frames, 6379).iter().map(|side| side.bytes_sent).sum();
    let received: u64 = servers(&frames, 6379).iter().map(|side| side.bytes_received).sum();
    assert_eq!(sent, 27 + 100 * 20 + 14);
    assert_eq!(sent, received);
    assert!(frames.iter().all(|frame| !frame.loss.any()));
}

/// More than there is time to look into: all are counted, also those in two segments, and hits told from misses in their
/// shares.
#[test]
fn at_full_load_every_request_is_counted_and_some_are_looked_into() {
    const REQUESTS: u32 = 60_000;
    let Some(mut cluster) = cluster() else { return };
    let _redis = cluster.redis();
    let work = cluster.client.run(|| {
        let mut stream = TcpStream::connect((SERVER, 6379)).unwrap();
        stream.set_nodelay(true).unwrap();
        redis(&mut stream, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n");
        for number in 1..REQUESTS {
            let key = if number % 4 == 0 { 'b' } else { 'a' };
            if number % 7 == 0 {
                stream.write_all(b"*2\r\n$3\r\nG").unwrap();
                redis(&mut stream, &format!("ET\r\n$1\r\n{key}\r\n"));
            } else {
                redis(&mut stream, &format!("*2\r\n$3\r\nGET\r\n$1\r\n{key}\r\n"));
            }
        }
    });
    work.join().unwrap();
    let frames = cluster.watch(4);
    for sides in [clients(&frames, 6379), servers(&frames, 6379)] {
        let count = |number: fn(&gauntlet_probes::frame::L7Sample) -> u32| total_l7(&sides, Protocol::Redis, number);
        assert_eq!(
            (count(|l7| l7.requests), count(|l7| l7.responses)),
            (REQUESTS, REQUESTS)
        );
        assert_eq!((count(|l7| l7.unparsed), count(|l7| l7.errors)), (0, 0));
        let misses = f64::from(count(|l7| l7.misses)) / f64::from(REQUESTS);
        assert!(
            (0.22..0.28).contains(&misses),
            "{misses} of all are misses, a quarter was"
        );
        let looked_into = count(|l7| u32::try_from(l7.latency.count()).unwrap());
        eprintln!("{looked_into} of {REQUESTS} were looked into");
        assert!(
            (1_000..REQUESTS).contains(&looked_into),
            "{looked_into} were looked into"
        );
    }
    let untimed: u64 = frames.iter().map(|frame| frame.loss.untimed).sum();
    assert!(untimed > 0, "what was not looked into is told");
    assert!(frames.iter().all(|frame| !frame.loss.any()));
}

#[test]
fn a_virtual_address_is_resolved_to_the_pod_behind_it() {
    let Some(mut cluster) = cluster() else { return };
    let _redis = cluster.redis();
    let work = cluster.client.run(|| {
        let mut stream = TcpStream::connect((SERVICE, 6379)).unwrap();
        redis(&mut stream, "*1\r\n$4\r\nPING\r\n");
    });
    work.join().unwrap();
    let frames = cluster.watch(4);
    let edges = edges(&frames, 6379);
    assert!(!edges.is_empty());
    for edge in edges {
        assert_eq!(
            (edge.callee.clone(), edge.via.as_deref()),
            (pod("server"), Some("virtual"))
        );
    }
    assert_eq!(total_l7(&clients(&frames, 6379), Protocol::Redis, |l7| l7.requests), 1);
    assert_eq!(total_l7(&servers(&frames, 6379), Protocol::Redis, |l7| l7.requests), 1);
}

/// Answers each request head with `200`, but paths of `/missing` with `404` and of `/broken` with `503`.
fn serve_http(listener: &TcpListener, connections: usize) {
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().unwrap();
        let mut pending = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            pending.extend_from_slice(&buffer[..length]);
            while let Some(end) = pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8(pending.drain(..end + 4).collect()).unwrap();
                let status = match head.split(' ').nth(1).unwrap() {
                    "/missing" => "404 Not Found",
                    "/broken" => "503 Service Unavailable",
                    _ => "200 OK",
                };
                // A body over several segments.
                let body = "x".repeat(5000);
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    }
}

fn http(stream: &mut TcpStream, path: &str) {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let length = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..length]);
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if head.is_some_and(|head| answer.len() == head + 4 + 5000) {
            return;
        }
    }
}

#[test]
fn every_http_request_and_error_is_counted_on_both_sides() {
    let Some(mut cluster) = cluster() else { return };
    let server = cluster
        .server
        .run(|| serve_http(&TcpListener::bind((SERVER, 8080)).unwrap(), 3));
    cluster.await_port(8080);
    let work = cluster.client.run(|| {
        for _ in 0..3 {
            let mut stream = TcpStream::connect((SERVER, 8080)).unwrap();
            for _ in 0..20 {
                http(&mut stream, "/");
            }
            http(&mut stream, "/missing");
            http(&mut stream, "/broken");
            http(&mut stream, "/broken");
        }
    });
    work.join().unwrap();
    server.join().unwrap();
    let frames = cluster.watch(4);
    for sides in [clients(&frames, 8080), servers(&frames, 8080)] {
        let count = |number: fn(&gauntlet_probes::frame::L7Sample) -> u32| total_l7(&sides, Protocol::Http1, number);
        assert_eq!((count(|l7| l7.requests), count(|l7| l7.responses)), (69, 69));
        assert_eq!(
            (
                count(|l7| l7.errors),
                count(|l7| l7.client_errors),
                count(|l7| l7.unparsed)
            ),
            (6, 3, 0)
        );
        assert_eq!(total(&sides, |side| side.connects_opened), 3);
    }
}

#[test]
fn a_connection_older_than_the_probes_is_picked_up() {
    let Some(mut cluster) = cluster() else { return };
    let _redis = cluster.redis();
    // Opened while its namespace is wanted by nobody: as if before the probes.
    let (open, opened) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    cluster.forget();
    let work = cluster.client.run(move || {
        let mut stream = TcpStream::connect((SERVER, 6379)).unwrap();
        redis(&mut stream, "*1\r\n$4\r\nPING\r\n");
        open.send(()).unwrap();
        gone.recv().unwrap();
        for _ in 0..50 {
            redis(&mut stream, "*1\r\n$4\r\nPING\r\n");
        }
    });
    opened.recv().unwrap();
    cluster.tell_inventory();
    go.send(()).unwrap();
    work.join().unwrap();
    let frames = cluster.watch(4);
    let sides = clients(&frames, 6379);
    // Its first packet picks it up, so that all is seen.
    assert_eq!(total_l7(&sides, Protocol::Redis, |l7| l7.requests), 50);
    assert_eq!(total(&sides, |side| side.connects_attempted), 0);
    assert_eq!(total(&sides, |side| side.connects_closed), 1);
}

#[test]
fn name_lookups_are_counted_with_their_answers() {
    let Some(mut cluster) = cluster() else { return };
    const QUESTION: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05cache\0\0\x01\0\x01";
    let server = cluster.server.run(|| {
        let socket = UdpSocket::bind((SERVER, 53)).unwrap();
        let mut buffer = [0; 512];
        // 20 answers, then 5 "no such name", 2 failures, and silence.
        for index in 0..30_u8 {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let code = match index {
                0..20 => 0,
                20..25 => 3,
                25..27 => 2,
                _ => continue,
            };
            buffer[2] |= 0x80;
            buffer[3] |= code;
            socket.send_to(&buffer[..length], peer).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    let work = cluster.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut question = QUESTION.to_vec();
        for index in 0..30 {
            question[1] = index;
            socket.send_to(&question, (SERVER, 53)).unwrap();
            let _ = socket.recv(&mut [0; 512]);
        }
    });
    work.join().unwrap();
    server.join().unwrap();
    let mut frames = cluster.watch(2);
    std::thread::sleep(Duration::from_millis(2100));
    frames.extend(cluster.watch(2));
    let samples: Vec<_> = frames.iter().flat_map(|frame| &frame.dns).collect();
    assert!(
        samples
            .iter()
            .all(|dns| dns.client == pod("client") && dns.server == pod("server"))
    );
    let count =
        |number: fn(&gauntlet_probes::frame::DnsSample) -> u32| samples.iter().map(|dns| number(dns)).sum::<u32>();
    assert_eq!((count(|dns| dns.queries), count(|dns| dns.responses)), (30, 27));
    assert_eq!(
        (
            count(|dns| dns.nxdomain),
            count(|dns| dns.failures),
            count(|dns| dns.unanswered)
        ),
        (5, 2, 3)
    );
    assert_eq!(samples.iter().map(|dns| dns.latency.count()).sum::<u64>(), 27);
}

#[test]
fn starts_and_ends_of_processes_are_told_with_their_status() {
    let Some(mut cluster) = cluster() else { return };
    let script = format!(
        "echo $$ > {}/cgroup.procs; sleep 0; kill -9 $$",
        cluster.cgroup().display()
    );
    let status = cluster.server.command("sh").args(["-c", &script]).status().unwrap();
    assert!(!status.success());
    let script = format!("echo $$ > {}/cgroup.procs; exit 3", cluster.cgroup().display());
    assert_eq!(
        cluster
            .server
            .command("sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .code(),
        Some(3)
    );
    let frames = cluster.watch(2);
    let events: Vec<_> = frames.iter().flat_map(|frame| &frame.events).collect();
    assert!(
        events
            .iter()
            .all(|event| pod("server") == gauntlet_probes::entity::Peer::Pod(event.pod.clone()))
    );
    let told = |comm: &str, kind| {
        events
            .iter()
            .filter(|event| event.comm == comm && event.kind == kind)
            .count()
    };
    assert_eq!(told("sleep", ProcessEventKind::Exec), 1);
    assert_eq!(told("sleep", ProcessEventKind::Exited(0)), 1);
    assert_eq!(told("sh", ProcessEventKind::Signalled(9)), 1);
    assert_eq!(told("sh", ProcessEventKind::Exited(3)), 1);
}

#[test]
fn the_work_of_a_pod_is_measured_by_its_cgroup() {
    let Some(mut cluster) = cluster() else { return };
    let mut command = cluster.server.command("sh");
    command.args(["-c", "while :; do :; done"]);
    let busy = support::Server(command.spawn().unwrap());
    cluster.adopt(busy.0.id());
    cluster.watch(6);
    let frames = cluster.watch(10);
    let usage: Vec<_> = frames
        .iter()
        .flat_map(|frame| &frame.pods)
        .map(|sample| &sample.usage)
        .collect();
    let cpu_ns: u64 = usage.iter().filter_map(|usage| usage.cpu_ns).sum();
    let span_ns: u64 = frames.iter().map(|frame| frame.span_ns).sum();
    // One thread cannot use more than the time there was; on a busy machine it gets less.
    assert!(
        cpu_ns > span_ns / 10 && cpu_ns < span_ns + span_ns / 5,
        "{cpu_ns} of {span_ns}"
    );
    assert!(
        usage
            .iter()
            .all(|usage| usage.process_count == Some(1) && usage.run_queue_wait_ns.is_some())
    );
    assert!(usage.iter().all(|usage| usage.cpu_pressure_us.is_some()));
}
