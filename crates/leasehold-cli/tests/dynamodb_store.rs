//! Tables, endpoints and credentials that are not as they should be; and a run on DynamoDB Local.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::support::{Room, assert_message, dynamo, net, until, wait_line};
use rustix::process::Signal;

/// A run with a short wait, which bounds everything.
const RUN: [&str; 6] = ["run", "job", "-w", "700ms", "--", "true"];

fn at(address: &str) -> Room {
    Room::with_store(&dynamo::url("locks", address))
}

#[test]
fn a_run_costs_two_requests() {
    let room = dynamo::room();
    let line = "echo $LEASEHOLD_STORE; exit 3";
    let output = room.run(&["run", "job", "--report", "report", "-c", line]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), room.store());
    let report = room.report();
    assert_eq!(
        (report["requests"].as_u64(), report["write_units"].as_f64()),
        (Some(2), Some(2.0))
    );
    assert_eq!(report["release"], "released");
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn busy_on_a_table() {
    let room = dynamo::room();
    let mut holder = room.start(
        &["--label", "somebody"],
        &format!("echo > in; {}", wait_line("go")),
    );
    until("held", || room.has("in"));
    let output = room.run(&["run", "job", "-n", "--report", "report", "--", "true"]);
    assert_message(&output, 75, "`job` is held by somebody", "-w 30s");
    assert_eq!(room.report()["requests"], 1);
    room.touch("go");
    assert_eq!(holder.ended(), 0);
}

#[test]
fn init_makes_a_table_once() {
    let room = Room::with_store(&dynamo::url(&dynamo::table_name(), &dynamo::address()));
    let missing = room.run(&["run", "job", "--", "true"]);
    let exact = format!("leasehold init --store '{}'", room.store());
    assert_message(&missing, 78, "the table does not exist", &exact);
    assert_message(&room.run(&["ls"]), 78, "the table does not exist", &exact);
    for expected in [
        "created dynamodb://",
        "is there already, and fine: dynamodb://",
    ] {
        let output = room.run(&["init"]);
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(expected),
            "{output:?}"
        );
    }
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
}

#[test]
fn a_table_with_another_key_is_78() {
    for (key, kind) in [("Id", "S"), ("LockKey", "N")] {
        let table = dynamo::table_name();
        dynamo::create_table(&table, key, kind);
        let room = Room::with_store(&dynamo::url(&table, &dynamo::address()));
        for arguments in [&["run", "job", "--", "true"][..], &["init"]] {
            assert_message(
                &room.run(arguments),
                78,
                "`LockKey` (S, HASH)",
                "another table",
            );
        }
    }
}

#[test]
fn a_table_with_ttl_elsewhere_is_78() {
    let table = dynamo::table_name();
    dynamo::create_table(&table, "LockKey", "S");
    dynamo::call(
        "UpdateTimeToLive",
        &format!(
            r#"{{"TableName":"{table}","TimeToLiveSpecification":{{"Enabled":true,"AttributeName":"other"}}}}"#
        ),
    );
    let room = Room::with_store(&dynamo::url(&table, &dynamo::address()));
    assert_message(
        &room.run(&["init"]),
        78,
        "has its TTL on `other`",
        "update-time-to-live",
    );
}

#[test]
fn no_credentials_is_77_and_fast() {
    let room = at(&net::black_hole());
    let start = Instant::now();
    let mut command = room.command(&["run", "job", "--", "true"]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    assert_message(
        &command.output().unwrap(),
        77,
        "no usable AWS credentials",
        "AWS_PROFILE",
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    // The metadata service of the cloud is there, and silent.
    let start = Instant::now();
    let silent = format!("http://{}", net::black_hole());
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent);
    assert_message(
        &command.output().unwrap(),
        77,
        "no usable AWS credentials",
        "AWS_PROFILE",
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn no_region_is_78() {
    let room = Room::with_store("dynamodb://locks");
    let mut command = room.command(&["run", "job", "--", "true"]);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    assert_message(
        &command.output().unwrap(),
        78,
        "no AWS region for dynamodb table `locks`",
        "?region=",
    );
}

/// A run whose store names profiles of these files, with other credentials in the environment: the credential that the
/// request was signed with, and the output.
fn signed(room: &Room, url: &str, environment: &[(&str, &str)]) -> (String, Output) {
    let (address, requests) = net::refusing(400, "AccessDeniedException", "not you");
    let url = format!("{url}&endpoint=http://{address}");
    let mut command = room.command(&["ls", "--store", &url]);
    command
        .env("AWS_ACCESS_KEY_ID", "of-the-environment")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_CONFIG_FILE", room.path("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", room.path("credentials"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().copied());
    let output = command.output().unwrap();
    let requests = requests.lock().unwrap();
    let credential = requests
        .split_once("Credential=")
        .map_or("", |(_, rest)| rest.split(',').next().unwrap_or_default());
    // KEY/DATE/REGION/…
    let parts: Vec<_> = credential.split('/').collect();
    let who = match parts[..] {
        [key, _date, region, ..] => format!("{key} in {region}"),
        _ => String::new(),
    };
    (who, output)
}

#[test]
fn a_profile_that_the_url_names_is_used() {
    let room = Room::new();
    fs::write(
        room.path("config"),
        "[profile ours]\nregion = of-ours\n[profile bare]\nregion = of-bare\n",
    )
    .unwrap();
    fs::write(
        room.path("credentials"),
        "[ours]\naws_access_key_id = of-ours\naws_secret_access_key = secret\n",
    )
    .unwrap();
    let named = "dynamodb://locks?profile=ours";
    assert_eq!(signed(&room, named, &[]).0, "of-ours in of-ours");
    // The region: the URL's, the environment's, the profile's.
    let region = [("AWS_REGION", "of-the-environment")];
    assert_eq!(
        signed(&room, named, &region).0,
        "of-ours in of-the-environment"
    );
    let both = format!("{named}&region=of-the-url");
    assert_eq!(signed(&room, &both, &region).0, "of-ours in of-the-url");
    // A profile of the environment does not outdo credentials there; that is how AWS has it.
    let unnamed = "dynamodb://locks?region=of-the-url";
    assert_eq!(
        signed(&room, unnamed, &[("AWS_PROFILE", "ours")]).0,
        "of-the-environment in of-the-url"
    );
    // Nobody else's credentials instead of those that it has not.
    let (who, output) = signed(&room, "dynamodb://locks?profile=bare", &[]);
    assert_eq!(who, "");
    assert_message(
        &output,
        77,
        "no usable AWS credentials (endpoint http://127.0.0.1",
        "give the profile `bare` credentials",
    );
}

#[test]
fn a_profile_that_is_missing_is_78() {
    let room = Room::new();
    fs::write(room.path("config"), "[profile ours]\nregion = x\n").unwrap();
    fs::write(room.path("credentials"), "").unwrap();
    let (who, output) = signed(&room, "dynamodb://locks?region=local&profile=your%20s", &[]);
    assert_eq!(who, "");
    assert_message(
        &output,
        78,
        "the profile `your s` of dynamodb://locks?region=local&endpoint=http://127.0.0.1:",
        "aws configure --profile 'your s'",
    );
    fs::write(room.path("config"), "region = x\n[").unwrap();
    let (who, output) = signed(&room, "dynamodb://locks?region=local&profile=ours", &[]);
    assert_eq!(who, "");
    assert_message(&output, 78, "cannot be read", "`profile=ours`");
}

#[test]
fn refused_access_is_77() {
    let room = at(&net::always(400, "AccessDeniedException", "not you"));
    for arguments in [&RUN[..], &["ls"], &["show", "job"]] {
        assert_message(
            &room.run(arguments),
            77,
            "AccessDeniedException: not you",
            "allow dynamodb:",
        );
    }
    let room = at(&net::always(400, "UnrecognizedClientException", "who"));
    assert_message(
        &room.run(&RUN),
        77,
        "UnrecognizedClientException",
        "credentials",
    );
}

#[test]
fn throttled_is_69() {
    let room = at(&net::always(400, "ThrottlingException", "slow down"));
    assert_message(&room.run(&RUN), 69, "slow down", "capacity");
}

#[test]
fn a_service_that_makes_no_sense_is_69() {
    let room = at(&net::always(400, "TeapotException", "short and stout"));
    assert_message(&room.run(&RUN), 69, "TeapotException", "");
    let room = at(&net::always(500, "InternalServerError", "oh"));
    assert_message(&room.run(&RUN), 69, "oh", "");
}

#[test]
fn nobody_at_the_endpoint_is_69() {
    let address = net::nobody();
    let room = at(&address);
    let start = Instant::now();
    let message = format!("(endpoint http://{address})");
    assert_message(&room.run(&RUN), 69, &message, "endpoint");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_black_hole_is_69_within_the_bound() {
    // The wait, and then 3 s for a claim whose answer may still come.
    let room = at(&net::black_hole());
    let start = Instant::now();
    let output = room.run(&RUN);
    assert_message(&output, 69, "cannot acquire `job`", "");
    assert!(
        start.elapsed() < Duration::from_millis(700 + 3_000 + 1_500),
        "{:?}",
        start.elapsed()
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("may still be acquired, and its lease then expires within 20s"),
        "{said}"
    );
}

#[test]
fn a_black_hole_ends_a_wait_for_ever_too() {
    // The library gives up on a store that has not answered for 10 s.
    let room = at(&net::black_hole());
    for options in [&["-n"][..], &[]] {
        let start = Instant::now();
        let all = [&["run", "job"], options, &["--", "true"]].concat();
        assert_message(&room.run(&all), 69, "dynamodb table `locks`", "");
        assert!(
            start.elapsed() < Duration::from_secs(10 + 2 + 3 + 3),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn answers_that_come_too_late_are_69_and_leave_nothing() {
    let table = dynamo::table_name();
    let direct = Room::with_store(&dynamo::url(&table, &dynamo::address()));
    assert_eq!(direct.code(&["init"]), 0);
    let way = net::Way::to(&dynamo::address());
    let slow = Room::with_store(&dynamo::url(&table, &way.address));
    // Of 3 s, 1.3 s are margin and grace: what is known after 1.9 s is worth nothing.
    way.delay(Duration::from_millis(1_900));
    let output = slow.run(&[
        "run", "job", "--lease", "3s", "--grace", "300ms", "--", "touch", "ran",
    ]);
    assert_message(
        &output,
        69,
        "acquired `job`, but the answer came too late",
        "longer",
    );
    assert!(!slow.has("ran"));
    until("free or over", || direct.job()["state"] != "held");
}

#[test]
fn a_signal_takes_back_a_claim_that_is_under_way() {
    let table = dynamo::table_name();
    let direct = Room::with_store(&dynamo::url(&table, &dynamo::address()));
    assert_eq!(direct.code(&["init"]), 0);
    let way = net::Way::to(&dynamo::address());
    way.delay(Duration::from_millis(800));
    let slow = Room::with_store(&dynamo::url(&table, &way.address));
    let mut wrapper = slow.start(&[], "echo > ran");
    // The claim has landed, and its answer is on the way.
    until("the claim", || direct.job()["state"] == "held");
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.ended(), 143);
    assert!(!slow.has("ran"));
    assert_eq!(direct.job()["state"], "free");
    assert_eq!(wrapper.stderr(), "");
}

#[test]
fn a_release_that_fails_changes_no_code() {
    let table = dynamo::table_name();
    let direct = Room::with_store(&dynamo::url(&table, &dynamo::address()));
    assert_eq!(direct.code(&["init"]), 0);
    let way = net::Way::to(&dynamo::address());
    let room = Room::with_store(&dynamo::url(&table, &way.address));
    let line = format!("echo > in; {}; exit 6", wait_line("go"));
    let mut wrapper = room.start(&["--report", "report"], &line);
    until("in", || room.has("in"));
    way.cut();
    room.touch("go");
    assert_eq!(wrapper.ended(), 6);
    let said = wrapper.stderr();
    assert!(
        said.contains("could not release `job`, its lease expires within 20s"),
        "{said}"
    );
    let report = room.report();
    assert_eq!(
        (&report["outcome"], &report["exit_code"]),
        (&"completed".into(), &6.into())
    );
    assert!(
        report["release"].as_str().unwrap().starts_with("failed: "),
        "{report}"
    );
}
