//! The way to DynamoDB: proxies, TLS, and servers that are not DynamoDB.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use std::fs;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::{Room, assert_message, net, tls};

const RUN: [&str; 6] = ["run", "job", "-w", "700ms", "--", "true"];

/// What the servers here say: that the right one was reached.
const REACHED: &str = "HTTP/1.1 400 X\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\nContent-Length: 64\r\n\r\n\
    {\"__type\":\"x#AccessDeniedException\",\"message\":\"reached by TLS!\"}";

fn to(room: &Room, endpoint: &str) -> Command {
    let mut command = room.command(&RUN);
    command
        .env("LEASEHOLD_STORE", "dynamodb://locks?region=local")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL", endpoint);
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

#[test]
fn c8_an_http_proxy_is_used_but_not_for_what_no_proxy_names() {
    let room = Room::new();
    let (proxy, requests) = net::refusing(400, "AccessDeniedException", "the proxy was asked");
    // Nobody has a name that ends like this.
    let with = |no_proxy: &str| {
        let mut command = to(&room, "http://dynamodb.invalid");
        command
            .env("HTTP_PROXY", format!("http://{proxy}"))
            .env("NO_PROXY", no_proxy);
        run(command)
    };
    assert_message(&with("other.invalid"), 77, "the proxy was asked", "allow");
    let seen = requests.lock().unwrap().clone();
    assert!(seen.starts_with("POST http://dynamodb.invalid/ "), "{seen}");
    assert_message(&with("dynamodb.invalid"), 69, "cannot connect", "the proxy");
}

#[test]
fn c8_an_https_proxy_is_a_tunnel() {
    let room = Room::new();
    let server = tls::secure(REACHED);
    let (proxy, tunnels) = tls::tunnel(server.port);
    fs::write(room.path("ca.pem"), &server.certificate).unwrap();
    // With and without a scheme, as other programs take it.
    for (turn, proxy) in [format!("http://{proxy}"), proxy].iter().enumerate() {
        let mut command = to(&room, "https://localhost:1");
        command
            .env("HTTPS_PROXY", proxy)
            .env("AWS_CA_BUNDLE", room.path("ca.pem"));
        assert_message(&run(command), 77, "reached by TLS!", "allow");
        assert!(tunnels.load(Ordering::SeqCst) > turn);
    }
}

#[test]
fn c8_a_proxy_that_cannot_be_one_is_not_passed_by() {
    let room = Room::new();
    for (variable, proxy, why) in [
        (
            "HTTPS_PROXY",
            "socks5://127.0.0.1:1",
            "the scheme `socks5` is not that of an HTTP proxy",
        ),
        ("https_proxy", "a b", "not a URL"),
        ("HTTP_PROXY", "http://127.0.0.1:many", "not a"),
        ("ALL_PROXY", "http://127.0.0.1:1\n", "has a line break"),
    ] {
        let mut command = to(&room, "https://localhost:1");
        command.env(variable, proxy);
        let output = run(command);
        assert_message(&output, 78, why, "`http://HOST:PORT`");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(variable),
            "{output:?}"
        );
    }
}

#[test]
fn c9_a_certificate_that_nobody_trusts_is_told_at_once() {
    let room = Room::new();
    let server = tls::secure(REACHED);
    let start = Instant::now();
    let output = run(to(&room, &format!("https://localhost:{}", server.port)));
    assert_message(&output, 78, "no TLS connection: ", "AWS_CA_BUNDLE");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("certificate") && !said.contains("may still be acquired"),
        "{said}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(*server.requests.lock().unwrap(), "");
}

#[test]
fn c9_a_file_of_certificates_is_trusted() {
    let room = Room::new();
    let server = tls::secure(REACHED);
    let endpoint = format!("https://localhost:{}", server.port);
    fs::write(room.path("ca.pem"), &server.certificate).unwrap();
    let mut command = to(&room, &endpoint);
    command.env("AWS_CA_BUNDLE", room.path("ca.pem"));
    assert_message(&run(command), 77, "reached by TLS!", "allow");
    let profile = format!("[default]\nca_bundle = {}\n", room.path("ca.pem").display());
    fs::write(room.path("config"), profile).unwrap();
    let mut command = to(&room, &endpoint);
    command.env("AWS_CONFIG_FILE", room.path("config"));
    assert_message(&run(command), 77, "reached by TLS!", "allow");
}

#[test]
fn c9_a_file_without_certificates_is_named() {
    let room = Room::new();
    fs::write(room.path("text"), "no certificate\n").unwrap();
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(room.path("bad"), bad).unwrap();
    for (file, why) in [
        ("none", "which cannot be read"),
        ("text", "which has no certificate"),
        ("bad", "which has a certificate that cannot be used"),
    ] {
        let mut command = to(&room, "https://localhost:1");
        command.env("AWS_CA_BUNDLE", room.path(file));
        let output = run(command);
        assert_message(&output, 78, why, "PEM");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("AWS_CA_BUNDLE") && !said.contains("internal error"),
            "{said}"
        );
    }
}

#[test]
fn c9_a_system_without_certificates_is_named() {
    let room = Room::new();
    let bare = |endpoint: &str| {
        let mut command = to(&room, endpoint);
        command
            .env("SSL_CERT_FILE", "/dev/null")
            .env("SSL_CERT_DIR", room.path("none"));
        run(command)
    };
    assert_message(
        &bare("https://localhost:1"),
        78,
        "this system has no trusted certificates",
        "ca-certificates",
    );
    // Nobody needs them here.
    let open = net::always(400, "AccessDeniedException", "not you");
    assert_message(&bare(&format!("http://{open}")), 77, "not you", "allow");
}

#[test]
fn c20_a_page_of_a_proxy_is_told_with_its_status_and_first_words() {
    for (status, code) in [
        (503, 69),
        (504, 69),
        (403, 78),
        (301, 78),
        (407, 78),
        (200, 78),
    ] {
        let page = "<html><head><title>Corporate\n Gateway</title></head><body><h1>Not today</h1></body></html>";
        let (address, _) = net::answering(move |_| net::answer(status, "text/html", page));
        let room = Room::new();
        let output = run(to(&room, &format!("http://{address}")));
        let told = format!(
            "the answer is not DynamoDB's: status {status}, \"Corporate Gateway Not today\""
        );
        let hint = if status >= 500 {
            "the proxy"
        } else {
            "NO_PROXY"
        };
        assert_message(&output, code, &told, hint);
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!said.contains("unknown error"), "{said}");
    }
}
