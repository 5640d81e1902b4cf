//! Runs every example. The DynamoDB examples need the server of `cargo xtask test`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn output(program: &str, args: &[&str]) -> String {
    finished(&command(program, args).output().expect("starts"))
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn finished(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{error}",
        output.status
    );
    text
}

fn file(directory: &tempfile::TempDir) -> String {
    path(directory.path())
}

fn path(directory: &Path) -> String {
    directory.join("locks.db").display().to_string()
}

/// With DynamoDB Local in place of AWS.
fn on_dynamodb(program: &str) -> Command {
    let endpoint = std::env::var("LEASEHOLD_TEST_DYNAMODB")
        .expect("LEASEHOLD_TEST_DYNAMODB is not set: run the tests with `cargo xtask test`");
    let mut command = Command::new(program);
    command
        .env("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test");
    command
}

#[test]
fn acquire() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = output(env!("CARGO_BIN_EXE_acquire"), &[&file(&directory)]);
    assert!(text.starts_with("writing the report with token "), "{text}");
}

#[test]
fn dynamodb_and_fencing() {
    let text = finished(
        &on_dynamodb(env!("CARGO_BIN_EXE_dynamodb"))
            .output()
            .expect("starts"),
    );
    assert!(
        text.starts_with("importing customer 42 with token "),
        "{text}"
    );
    let text = finished(
        &on_dynamodb(env!("CARGO_BIN_EXE_fencing"))
            .output()
            .expect("starts"),
    );
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "second holder, column: written",
            "first holder, column: refused",
            "second holder, transaction: written",
            "first holder, transaction: refused",
        ]
    );
}

#[test]
fn leader() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = output(env!("CARGO_BIN_EXE_leader"), &[&file(&directory), "3"]);
    let tokens: Vec<u64> = text
        .lines()
        .map(|line| line.rsplit(' ').next().expect("a word"))
        .map(|token| token.parse().expect("a token"))
        .collect();
    assert!(
        tokens.len() == 3 && tokens.is_sorted_by(|a, b| a < b),
        "{text}"
    );
}

#[test]
fn cron_on_three_replicas() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = file(&directory);
    let texts = replicas(env!("CARGO_BIN_EXE_cron"), &[&file, "5"]);
    let lines = |line: &str| {
        let all = texts.iter().flat_map(|text| text.lines());
        all.filter(|other| *other == line).count()
    };
    // Two or three ticks of three replicas. One may begin late, or be ended before its last line.
    assert!((2..=3).contains(&lines("ran")), "{texts:?}");
    assert!(lines("left to another") >= 2, "{texts:?}");
}

fn replicas(program: &str, args: &[&str]) -> Vec<String> {
    let start = |_| {
        let mut replica = command(program, args);
        replica.stdout(Stdio::piped()).spawn().expect("starts")
    };
    let replicas: Vec<Child> = (0..3).map(start).collect();
    replicas
        .into_iter()
        .map(|replica| finished(&replica.wait_with_output().expect("ends")))
        .collect()
}

#[test]
fn a_migration_runs_on_one_of_three_replicas() {
    let directory = tempfile::tempdir().expect("a directory");
    let texts = replicas(env!("CARGO_BIN_EXE_migration"), &[&file(&directory)]);
    let all = texts.concat();
    assert_eq!(all.matches("migrating with token").count(), 1, "{all}");
    assert_eq!(all.matches("migrated by ").count(), 2, "{all}");
    assert_eq!(all.matches("serving").count(), 3, "{all}");
}

#[test]
fn a_message_that_comes_twice_is_handled_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = file(&directory);
    let consumer = env!("CARGO_BIN_EXE_consumer");
    let first = output(consumer, &[&file, "1", "2", "2", "bad"]);
    let second = output(consumer, &[&file, "bad", "1", "3"]);
    let all = first + &second;
    for (line, times) in [
        ("1: handled, deleted", 1),
        ("2: handled, deleted", 1),
        ("3: handled, deleted", 1),
        ("1: handled before by", 1),
        ("2: handled before by", 1),
        ("bad: a message that cannot be handled", 2),
    ] {
        assert_eq!(all.matches(line).count(), times, "{line}: {all}");
    }
}

#[test]
fn a_request_that_comes_twice_is_answered_from_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut service = command(env!("CARGO_BIN_EXE_idempotency"), &[&file(&directory)]);
    let mut service = service.stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(service.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first.strip_prefix("listening on ").expect("an address");
    let post = |key: &str, body: &str| {
        let mut connection = TcpStream::connect(address).expect("connects");
        let length = body.len();
        let request = format!(
            "POST /charges HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{key}Content-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(request.as_bytes()).expect("sends");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("answers");
        let code = answer.split(' ').nth(1).expect("a code").to_owned();
        let body = answer.split("\r\n\r\n").nth(1).expect("a body").to_owned();
        (code, body)
    };
    let key = "Idempotency-Key: 7\r\n";
    let (code, charged) = post(key, "{\"amount\":5}");
    assert_eq!(code, "201", "{charged}");
    assert!(charged.contains("\"charged\":5"), "{charged}");
    assert_eq!(post(key, "{\"amount\":5}"), ("200".to_owned(), charged));
    assert_eq!(post(key, "{\"amount\":6}").0, "422");
    assert_eq!(post("", "{}").0, "400");
    // What fails is not stored.
    let other = "Idempotency-Key: 8\r\n";
    assert_eq!(post(other, "no JSON").0, "422");
    assert_eq!(post(other, "{\"amount\":1}").0, "201");
    service.kill().expect("killed");
    service.wait().expect("ended");
}

#[test]
fn axum_releases_its_locks_before_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut service = command(env!("CARGO_BIN_EXE_axum_shutdown"), &[&file(&directory)]);
    let mut service = service.stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(service.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first.strip_prefix("listening on ").expect("an address");
    let mut connection = TcpStream::connect(address).expect("connects");
    connection
        .write_all(b"POST /import/42 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .expect("sends");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("answers");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("imported with token"),
        "{answer}"
    );
    let kill = Command::new("kill")
        .args(["-TERM", &service.id().to_string()])
        .status();
    assert!(kill.expect("kill").success());
    let last = lines.next().expect("a line").expect("text");
    assert_eq!(last, "all locks released: true");
    assert!(service.wait().expect("ends").success());
}

#[test]
fn lambda_answers_an_invocation() {
    // The runtime API of Lambda: one invocation, then the answer.
    let api = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = api.local_addr().expect("an address").to_string();
    let mut function = on_dynamodb(env!("CARGO_BIN_EXE_lambda"));
    let function = function
        .env("AWS_LAMBDA_RUNTIME_API", &address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "import")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "x")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "x");
    let mut function = function.spawn().expect("starts");
    let mut answer = None;
    while answer.is_none() {
        let (connection, _) = api.accept().expect("a connection");
        answer = serve(connection);
    }
    // It would wait for the next invocation for ever.
    function.kill().expect("killed");
    function.wait().expect("ended");
    let answer = answer.expect("an answer");
    assert!(answer.contains("\"token\":"), "{answer}");
}

/// Serves a connection of the function. The body of its answer, once it has given one.
fn serve(connection: TcpStream) -> Option<String> {
    let mut reader = BufReader::new(connection.try_clone().expect("cloned"));
    let mut writer = connection;
    loop {
        let (mut start, mut length) = (String::new(), 0);
        if reader.read_line(&mut start).ok()? == 0 {
            return None;
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if start.starts_with("POST") {
            return Some(format!("{start}{}", String::from_utf8_lossy(&body)));
        }
        let event = "{\"order\":\"42\"}";
        // In the year 2100.
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             lambda-runtime-aws-request-id: 1\r\nlambda-runtime-deadline-ms: 4102444800000\r\n\
             lambda-runtime-invoked-function-arn: x\r\n\r\n{event}",
            event.len()
        )
        .ok()?;
    }
}

#[test]
fn opentelemetry_exports_the_counters() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = output(env!("CARGO_BIN_EXE_opentelemetry"), &[&file(&directory)]);
    assert!(text.contains("leasehold_grants_total"), "{text}");
}
