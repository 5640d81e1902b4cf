//! Values of the environment, of the store URL and of the AWS configuration files that cannot work: each is refused at once, by its name.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{Room, alive, assert_message, net, until};
use rustix::process::Signal;

const RUN: [&str; 5] = ["run", "job", "-n", "--", "true"];

/// A run with this in its environment, against a server that refuses everybody.
fn with(room: &Room, environment: &[(&str, &str)]) -> Output {
    let (address, _) = net::refusing(400, "AccessDeniedException", "reached");
    let mut command = room.command(&RUN);
    command
        .env("LEASEHOLD_STORE", "dynamodb://locks")
        .env("AWS_REGION", "local")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn refused(output: &Output, message: &str, hint: &str) {
    assert_message(output, 78, message, hint);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("panicked") && !said.contains("may still be acquired"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn c6_what_a_header_cannot_have_is_refused_by_its_name() {
    let room = Room::new();
    for (variable, why) in [
        ("AWS_ACCESS_KEY_ID", "has a line break"),
        ("AWS_SECRET_ACCESS_KEY", "has a line break"),
        ("AWS_SESSION_TOKEN", "has a line break"),
        ("AWS_EXECUTION_ENV", "has a line break"),
        ("AWS_ACCOUNT_ID", "has a line break"),
    ] {
        let output = with(&room, &[(variable, "one\ntwo")]);
        refused(&output, &format!("{variable} {why}"), variable);
    }
    let output = with(&room, &[("AWS_SESSION_TOKEN", "one\u{7}two")]);
    refused(
        &output,
        "AWS_SESSION_TOKEN has a control character",
        "AWS_SESSION_TOKEN",
    );
}

#[test]
fn c6_credentials_of_a_profile_are_looked_at_too() {
    let room = Room::new();
    let helper = r#"credential_process = printf '{"Version":1,"AccessKeyId":"a\\nb","SecretAccessKey":"c"}'"#;
    fs::write(room.path("config"), format!("[default]\n{helper}\n")).unwrap();
    let config = room.path("config");
    let output = with(
        &room,
        &[
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", ""),
        ],
    );
    refused(
        &output,
        "the access key id of the AWS credentials has a line break",
        "profile",
    );
}

#[test]
fn c6_a_setting_that_the_sdk_panics_at_is_no_panic_of_ours() {
    let room = Room::new();
    for (variable, value) in [("AWS_MAX_ATTEMPTS", "many"), ("AWS_RETRY_MODE", "often")] {
        assert_message(&with(&room, &[(variable, value)]), 77, "reached", "allow");
    }
}

#[test]
fn c7_an_empty_variable_is_one_that_is_not_set() {
    let room = Room::new();
    for variable in [
        "AWS_ENDPOINT_URL_DYNAMODB",
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_CA_BUNDLE",
        "HTTP_PROXY",
    ] {
        assert_message(&with(&room, &[(variable, "")]), 77, "reached", "allow");
    }
    // The region's endpoint, by a proxy that is not there.
    let proxy = format!("http://{}", net::nobody());
    let nothing = [("AWS_ENDPOINT_URL", ""), ("HTTPS_PROXY", proxy.as_str())];
    assert_message(&with(&room, &nothing), 69, "(region local)", "the proxy");
    let empty = [("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "local")];
    assert_message(&with(&room, &empty), 77, "reached", "allow");
    refused(
        &with(&room, &[("AWS_REGION", "")]),
        "no AWS region",
        "AWS_REGION",
    );
}

#[test]
fn c7_a_region_that_is_none_is_named() {
    let room = Room::new();
    for (region, why) in [
        ("eu\nwest", "AWS_REGION has a line break"),
        (
            "eu west/1",
            "AWS_REGION is `eu west/1`, which is not a region",
        ),
        ("ä", "AWS_REGION has a letter that is not ASCII"),
    ] {
        refused(&with(&room, &[("AWS_REGION", region)]), why, "`eu-west-1`");
    }
    let store = [("LEASEHOLD_STORE", "dynamodb://locks?region=a%20b")];
    refused(
        &with(&room, &store),
        "the store parameter `region` is `a b`",
        "`eu-west-1`",
    );
    fs::write(room.path("config"), "[default]\nregion = a b\n").unwrap();
    let config = room.path("config");
    let profile = [
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_REGION", ""),
    ];
    refused(
        &with(&room, &profile),
        "`region` of the AWS profile `default` is `a b`",
        "`eu-west-1`",
    );
}

#[test]
fn c7_an_endpoint_that_is_none_is_named() {
    let room = Room::new();
    for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"] {
        for (endpoint, why) in [
            ("localhost:8000", "has no scheme"),
            ("ftp://localhost", "the scheme `ftp`"),
            ("http://", "not a URL"),
            ("http://a b", "not a URL"),
            ("http://localhost:99999", "`99999` is not a port"),
            ("http://localhost\n", "has a line break"),
            ("http://me:secret@localhost", "has a user name"),
        ] {
            let output = with(&room, &[(variable, endpoint)]);
            refused(&output, why, "`https://HOST`");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains(variable) && !said.contains("secret"),
                "{said}"
            );
        }
    }
    fs::write(room.path("config"), "[default]\nendpoint_url = x\n").unwrap();
    let config = room.path("config");
    let profile = [
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_ENDPOINT_URL", ""),
    ];
    refused(
        &with(&room, &profile),
        "`endpoint_url` of the AWS profile `default`",
        "`https://HOST`",
    );
}

#[test]
fn c7_the_endpoint_of_the_service_comes_before_that_of_all() {
    let room = Room::new();
    let (address, _) = net::refusing(400, "AccessDeniedException", "the services section");
    let services = format!(
        "[default]\nservices = ours\n[services ours]\ndynamodb =\n  endpoint_url = http://{address}\n"
    );
    fs::write(room.path("config"), services).unwrap();
    let config = room.path("config");
    let both = [
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_ENDPOINT_URL_DYNAMODB", ""),
    ];
    assert_message(&with(&room, &both), 77, "the services section", "allow");
}

/// A run whose credentials come from this command of the profile `helped`.
fn helped(room: &Room, process: &str) -> Command {
    let (address, _) = net::refusing(400, "AccessDeniedException", "reached");
    fs::write(
        room.path("config"),
        format!("[profile helped]\nregion = local\ncredential_process = {process}\n"),
    )
    .unwrap();
    let mut command = room.command(&RUN);
    command
        .env("LEASEHOLD_STORE", "dynamodb://locks?profile=helped")
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_CONFIG_FILE", room.path("config"));
    command
}

#[test]
fn c10_a_helper_that_is_slow_is_waited_for() {
    let room = Room::new();
    // Longer than all requests of a call may take.
    let made = r#"sh -c 'sleep 12; echo "{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"b\"}"'"#;
    let output = helped(&room, made).output().unwrap();
    assert_message(&output, 77, "reached", "allow");
}

#[test]
fn c10_a_helper_that_fails_is_told_with_what_it_said() {
    let room = Room::new();
    for (process, said) in [
        (
            r#"sh -c 'echo "the session is over" >&2; exit 3'"#,
            "the session is over",
        ),
        ("echo rubbish", "invalid JSON"),
        (r#"echo '{"Version":1}'"#, "AccessKeyId"),
        ("/no/such/helper", "/no/such/helper"),
    ] {
        let start = Instant::now();
        let output = helped(&room, process).output().unwrap();
        assert_message(
            &output,
            77,
            "no usable AWS credentials: ",
            "`credential_process` of the profile `helped`",
        );
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said) && !text.contains("no answer"), "{text}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn c10_a_session_that_is_over_is_told_with_the_command_that_begins_one() {
    let room = Room::new();
    let session = "[profile people]\nregion = local\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n\
        [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://example.invalid/start\n";
    fs::write(room.path("config"), session).unwrap();
    let mut command = room.command(&RUN);
    command
        .env("HOME", room.directory())
        .env("LEASEHOLD_STORE", "dynamodb://locks?profile=people")
        .env("AWS_CONFIG_FILE", room.path("config"));
    let output = command.output().unwrap();
    assert_message(
        &output,
        77,
        "no usable AWS credentials: ",
        "`aws sso login --profile people`",
    );
}

#[test]
fn c10_a_helper_that_hangs_is_ended() {
    let room = Room::new();
    let output = helped(&room, "sh -c 'echo $$ > helper; sleep 1000; true'")
        .output()
        .unwrap();
    assert_message(&output, 77, "no AWS credentials within 30s", "by hand");
    until("the helper's end", || !alive(room.pid("helper")));
}

#[test]
fn c10_a_helper_ends_with_us() {
    let room = Room::new();
    let mut command = helped(&room, "sh -c 'echo $$ > helper; sleep 1000; true'");
    let mut wrapper = support::Wrapper(command.spawn().unwrap());
    let helper = room.pid("helper");
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.ended(), 143);
    until("the helper's end", || !alive(helper));
}
