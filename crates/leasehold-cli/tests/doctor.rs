//! `doctor`: what it finds, what it says to do, and its exit code.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Room, dynamo, net};
use serde_json::Value;

/// The code, and the findings by check.
struct Examined {
    code: i32,
    findings: Vec<Value>,
    said: String,
}

impl Examined {
    fn of(room: &Room) -> Examined {
        let output = room.run(&["doctor", "--json"]);
        let lines = String::from_utf8(output.stdout).unwrap();
        let finding = |line| {
            let finding: Value = serde_json::from_str(line).unwrap();
            let object = finding.as_object().unwrap();
            let mut fields: Vec<_> = object.keys().map(String::as_str).collect();
            fields.sort_unstable();
            assert_eq!(fields, ["check", "code", "found", "hint", "level", "v"]);
            assert_eq!(finding["v"], 1);
            finding
        };
        Examined {
            code: output.status.code().unwrap(),
            findings: lines.lines().map(finding).collect(),
            said: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn has(&self, check: &str, level: &str, found: &str) {
        let same = |f: &&Value| f["check"] == check;
        let all: Vec<_> = self.findings.iter().filter(same).collect();
        assert!(
            all.iter()
                .any(|f| f["level"] == level && f["found"].as_str().unwrap().contains(found)),
            "no {level} {check} `{found}`: {:#?}",
            self.findings
        );
    }

    #[track_caller]
    fn hints(&self, check: &str, hint: &str) {
        let hinted = self.findings.iter().any(|f| {
            f["check"] == check && f["hint"].as_str().is_some_and(|found| found.contains(hint))
        });
        assert!(hinted, "no hint `{hint}`: {:#?}", self.findings);
    }

    fn levels(&self) -> Vec<&str> {
        self.findings
            .iter()
            .map(|f| f["level"].as_str().unwrap())
            .collect()
    }
}

#[test]
fn a_file_that_is_fine_and_one_that_is_not_there_yet() {
    let room = Room::new();
    let before = Examined::of(&room);
    assert_eq!((before.code, before.said.as_str()), (0, ""));
    before.has("file", "ok", "does not exist yet");
    before.has("fsync", "ok", "p50");
    assert_eq!(
        fs::read_dir(room.directory()).unwrap().count(),
        0,
        "it left something"
    );

    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    let list = || room.run(&["ls", "--all", "--json"]).stdout;
    let locks = list();
    let after = Examined::of(&room);
    assert_eq!(after.code, 0);
    assert!(
        after.levels().iter().all(|level| *level == "ok"),
        "{:#?}",
        after.findings
    );
    for (check, found) in [
        ("place", "this machine"),
        ("rights", "may be read and written"),
        ("links", "one name"),
        ("side files", "are there"),
        ("space", "MB free"),
        ("read", "p90"),
        ("clock", "since the boot"),
    ] {
        after.has(check, "ok", found);
    }
    assert_eq!(list(), locks, "it changed a record");
}

#[test]
fn for_people_it_is_a_line_each_on_standard_output() {
    let room = Room::new();
    fs::create_dir(room.path("locks.db")).unwrap();
    let output = room.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stdout).unwrap();
    let place = text.lines().find(|line| line.starts_with("problem  place"));
    assert!(
        place.is_some_and(|line| line.ends_with("is a directory")),
        "{text}"
    );
    assert!(
        text.contains("hint: name a file in it, such as `"),
        "{text}"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("leasehold: 1 problem: place (sqlite:"),
        "{said}"
    );
}

/// Without what differs from run to run: the directory, and numbers with their units.
fn normal(room: &Room, text: &str) -> String {
    let directory = room.directory().display().to_string();
    let mut normal = String::new();
    let mut rest = text.replace(&directory, "DIR");
    rest = rest.replace("µs", "ms");
    let mut in_number = false;
    for c in rest.chars() {
        let number = c.is_ascii_digit() || (in_number && c == '.');
        if !number {
            normal.push(c);
        } else if !in_number {
            normal.push('N');
        }
        in_number = number;
    }
    normal.replace("Ns,", "Nms,").replace("Ns of", "Nms of")
}

#[test]
fn the_whole_output_for_people() {
    let room = Room::new();
    assert_eq!(room.code(&["init"]), 0);
    fs::set_permissions(room.path("locks.db"), fs::Permissions::from_mode(0o666)).unwrap();
    let output = room.run(&["doctor"]);
    let text = normal(&room, &String::from_utf8(output.stdout).unwrap());
    // The type of the file system is this machine's.
    let lines = text.lines().filter(|line| !line.contains(" place "));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "ok       store        sqlite:DIR/locks.db, from LEASEHOLD_STORE",
            "ok       file         `DIR/locks.db` has N bytes",
            "ok       directory    `DIR` may be written (mode N)",
            "warning  rights       every user may write the lock file (mode N)",
            "                      hint: `chmod o-w DIR/locks.db*`",
            "ok       links        one name: no symbolic link, hard link or bind mount",
            "ok       side files   `-wal` (N bytes) and `-shm` are there, and belong to the lock file",
            "ok       space        N MB free",
            "ok       fsync        pN Nms, pN Nms, max Nms of N",
            "ok       read         pN Nms, pN Nms, max Nms of N",
            "ok       clock        the kernel's clock since the boot, which nobody can set; wall clocks play no part",
        ]
    );
    assert!(output.stderr.is_empty() && output.status.success());
}

#[test]
fn the_default_directory_is_not_made() {
    let room = Room::new();
    let output = room
        .command(&["doctor"])
        .env_remove("LEASEHOLD_STORE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("by default"), "{text}");
    assert!(!room.has("state"));
}

#[test]
fn b9_links_of_a_file() {
    let room = Room::new();
    assert_eq!(room.code(&["init"]), 0);
    symlink(room.path("locks.db"), room.path("other")).unwrap();
    let other = Room::with_store(&format!("sqlite:{}", room.path("other").display()));
    let found = Examined::of(&other);
    assert_eq!(found.code, 0);
    found.has("links", "ok", "a symbolic link leads to `");

    fs::hard_link(room.path("locks.db"), room.path("hard")).unwrap();
    let found = Examined::of(&room);
    assert_eq!(found.code, 78);
    found.has("place", "problem", "a hard link");
    found.hints("place", "`find / -xdev -samefile ");
}

#[test]
fn what_is_beside_a_file_and_who_may_write_it() {
    let room = Room::new();
    assert_eq!(room.code(&["init"]), 0);
    let mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(room.path("locks.db"), 0o666);
    mode(room.directory().to_owned(), 0o1777);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(room.path(&format!("locks.db{suffix}"))).unwrap();
    }
    let found = Examined::of(&room);
    assert_eq!(found.code, 0, "warnings only: {}", found.said);
    found.has("side files", "warning", "`-wal` is missing");
    found.has("rights", "warning", "every user may write");
    found.hints("rights", "`chmod o-w ");
    found.has("directory", "warning", "sticky");
}

#[test]
fn a_file_of_another_program_and_a_missing_directory() {
    let room = Room::new();
    fs::write(room.path("locks.db"), "x".repeat(4096)).unwrap();
    let found = Examined::of(&room);
    assert_eq!(found.code, 78);
    found.has("open", "problem", "locks.db");

    let nowhere = Room::with_store("sqlite:/no/such/place/locks.db");
    let found = Examined::of(&nowhere);
    assert_eq!(found.code, 78);
    found.has("place", "problem", "does not exist");
    found.hints("place", "`mkdir -p /no/such/place`");
}

#[test]
fn a_table_that_is_fine_is_not_changed() {
    let room = dynamo::room();
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    let list = || room.run(&["ls", "--all", "--json"]).stdout;
    let locks = list();
    let found = Examined::of(&room);
    assert_eq!((found.code, found.said.as_str()), (0, ""));
    for (check, text) in [
        ("store", "from LEASEHOLD_STORE"),
        ("region", "local, from the store parameter `region`"),
        ("endpoint", "from the store parameter `endpoint`"),
        ("credentials", "the access key …test, from the environment"),
        ("schema", "`LockKey` (S, HASH)"),
        ("billing", "on demand"),
        ("replicas", "none"),
        ("permission", "dynamodb:ConditionCheckItem"),
        ("latency", "p50"),
        ("clock", "is right within"),
    ] {
        found.has(check, "ok", text);
    }
    assert_eq!(list(), locks, "it changed a record");
}

#[test]
fn a_table_that_is_missing_or_of_another_shape() {
    let name = dynamo::table_name();
    let room = Room::with_store(&dynamo::url(&name, &dynamo::address()));
    let found = Examined::of(&room);
    assert_eq!(found.code, 78);
    found.has("schema", "problem", "does not exist");
    found.hints("schema", "`leasehold init --store 'dynamodb://");

    dynamo::create_table(&name, "Id", "S");
    let found = Examined::of(&room);
    assert_eq!(found.code, 78);
    found.has("schema", "problem", "has the key `Id` (S, HASH)");

    // Without TTL locks are safe.
    let name = dynamo::table_name();
    dynamo::create_table(&name, "LockKey", "S");
    let room = Room::with_store(&dynamo::url(&name, &dynamo::address()));
    let found = Examined::of(&room);
    assert_eq!(found.code, 0);
    found.has("ttl", "warning", "has no TTL");
    found.hints("ttl", "`leasehold init --store 'dynamodb://");
}

/// A date header `ahead` of this host's clock.
fn date(ahead: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let stamp = jiff::Timestamp::from_second((now + ahead).as_secs().cast_signed()).unwrap();
    stamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A DynamoDB with these headers, which answers with `body`, or refuses.
fn service(
    headers: impl Fn() -> String + Send + Sync + 'static,
    body: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> String {
    let (address, _) = net::answering(move |request| {
        let (status, body) = body(net::action(request));
        format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n\
             x-amzn-requestid: 1\r\n{}Content-Length: {}\r\n\r\n{body}",
            headers(),
            body.len()
        )
    });
    address
}

const TABLE: &str = r#""TableName":"locks","TableStatus":"ACTIVE",
    "AttributeDefinitions":[{"AttributeName":"LockKey","AttributeType":"S"}],
    "KeySchema":[{"AttributeName":"LockKey","KeyType":"HASH"}]"#;

/// A table with more in its description.
fn table(more: &'static str) -> impl Fn(&str) -> (u16, String) {
    move |action| {
        let refused = |code: &str| {
            let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
            (400, format!(r#"{{"__type":"{kind}","message":"no"}}"#))
        };
        match action {
            "DescribeTable" => (200, format!(r#"{{"Table":{{{TABLE}{more}}}}}"#)),
            "DescribeTimeToLive" => (
                200,
                r#"{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLED","AttributeName":"ExpireInUnixSeconds"}}"#.to_owned(),
            ),
            "DescribeContinuousBackups" => (
                200,
                r#"{"ContinuousBackupsDescription":{"ContinuousBackupsStatus":"ENABLED",
                "PointInTimeRecoveryDescription":{"PointInTimeRecoveryStatus":"ENABLED"}}}"#.to_owned(),
            ),
            "UpdateItem" | "DeleteItem" => refused("ConditionalCheckFailedException"),
            "TransactWriteItems" => refused("AccessDeniedException"),
            _ => (200, "{}".to_owned()),
        }
    }
}

fn at(address: &str) -> Room {
    Room::with_store(&dynamo::url("locks", address))
}

#[test]
fn b7_dates_of_a_proxy_are_noticed() {
    let ahead = || {
        let date = date(Duration::from_secs(30));
        format!("Server: nginx/1.25\r\nDate: {date}\r\n")
    };
    let found = Examined::of(&at(&service(ahead, table(""))));
    assert_eq!(found.code, 0, "{}", found.said);
    found.has("clock", "warning", "behind the dates of the answers");
    found.hints("clock", "`chronyc tracking`");
    found.has("proxy", "warning", "`Server: nginx/1.25`");
    found.hints("proxy", "`proxy_pass_header Date;`");

    let none = Examined::of(&at(&service(String::new, table(""))));
    none.has("clock", "warning", "no date of the service");
    let right = || format!("Server: Server\r\nDate: {}\r\n", date(Duration::ZERO));
    let right = Examined::of(&at(&service(right, table(""))));
    right.has("clock", "ok", "is right within");
    right.has("proxy", "ok", "`Server: Server`");
}

#[test]
fn what_the_description_of_a_table_says() {
    let right = || format!("Server: Server\r\nDate: {}\r\n", date(Duration::ZERO));
    let address = service(
        right,
        table(
            r#","TableArn":"arn:aws:dynamodb:local:1:table/locks","DeletionProtectionEnabled":true,
            "ProvisionedThroughput":{"ReadCapacityUnits":5,"WriteCapacityUnits":6},
            "Replicas":[{"RegionName":"eu-west-1"},{"RegionName":"us-east-1"}],"MultiRegionConsistency":"STRONG""#,
        ),
    );
    let found = Examined::of(&at(&address));
    assert_eq!(found.code, 0, "{}", found.said);
    found.has("billing", "warning", "5 read and 6 write units");
    found.hints("billing", "--billing-mode PAY_PER_REQUEST --region local");
    // It has no TTL, whatever the store URL says.
    found.has("replicas", "warning", "strong consistency");
    found.hints("replicas", "add `mrsc=true`");
    found.has("protection", "ok", "cannot be deleted");
    found.has("recovery", "ok", "point-in-time recovery is on");
    // Only fencing needs it.
    found.has("permission", "warning", "no dynamodb:ConditionCheckItem");
    found.hints("permission", "`leasehold init --print iam ");

    let mrsc = |address: &str| Room::with_store(&(dynamo::url("locks", address) + "&mrsc=true"));
    let found = Examined::of(&mrsc(&address));
    found.has("replicas", "ok", "strong consistency");
    found.has("schema", "ok", "without TTL");

    let eventual = r#","Replicas":[{"RegionName":"eu-west-1"}]"#;
    let address = service(right, table(eventual));
    Examined::of(&at(&address)).has("replicas", "ok", "only in one Region");
    Examined::of(&mrsc(&address)).has("replicas", "warning", "eventual consistency");
    let anywhere = Room::with_store("dynamodb://locks");
    let output = anywhere
        .command(&["doctor"])
        .env("AWS_REGION", "local")
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("warning  replicas"), "{text}");
    assert!(text.contains("local, from AWS_REGION"), "{text}");
    assert!(
        text.contains("requests go through that of HTTPS_PROXY"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains(", from AWS_ENDPOINT_URL\n"), "{text}");
}

#[test]
fn permissions_are_tried_one_by_one() {
    let right = || format!("Server: Server\r\nDate: {}\r\n", date(Duration::ZERO));
    for action in ["GetItem", "UpdateItem", "DeleteItem", "Scan"] {
        let all = table("");
        let found = Examined::of(&at(&service(right, move |asked| {
            if asked == action {
                let kind = "com.amazonaws.dynamodb.v20120810#AccessDeniedException";
                return (400, format!(r#"{{"__type":"{kind}","message":"no"}}"#));
            }
            all(asked)
        })));
        let (code, level) = match action {
            "Scan" => (0, "warning"),
            _ => (77, "problem"),
        };
        assert_eq!(found.code, code, "{action}: {}", found.said);
        found.has("permission", level, &format!("no dynamodb:{action}"));
        let denied = found.levels().iter().filter(|l| **l == level).count();
        // Scan's warning beside that of ConditionCheckItem.
        assert_eq!(
            denied,
            if action == "Scan" { 2 } else { 1 },
            "{:#?}",
            found.findings
        );
    }
}

#[test]
fn identity_is_asked_for_where_an_endpoint_is_named() {
    let right = || format!("Server: Server\r\nDate: {}\r\n", date(Duration::ZERO));
    let address = service(right, table(""));
    let room = at(&address);
    let (sts, _) = net::answering(|_| {
        net::answer(
            200,
            "text/xml",
            r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
            <Arn>arn:aws:iam::123456789012:user/me</Arn><UserId>U</UserId><Account>123456789012</Account>
            </GetCallerIdentityResult></GetCallerIdentityResponse>"#,
        )
    });
    let output = room
        .command(&["doctor"])
        .env("AWS_ENDPOINT_URL_STS", format!("http://{sts}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("arn:aws:iam::123456789012:user/me"), "{text}");
    Examined::of(&room).has("identity", "unknown", "not known: it is not asked for");
}

#[test]
fn what_ends_before_the_table_ends_the_examination() {
    let nobody = Examined::of(&at(&net::nobody()));
    assert_eq!(nobody.code, 69);
    nobody.has("read", "problem", "cannot connect");
    let room = at(&net::nobody());
    let output = room
        .command(&["doctor"])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("problem  credentials  no usable AWS credentials"),
        "{text}"
    );
}

#[test]
fn a_service_that_stops_to_answer_is_not_waited_for_long() {
    let right = || format!("Server: Server\r\nDate: {}\r\n", date(Duration::ZERO));
    let all = table("");
    let room = at(&service(right, move |action| {
        if action == "DescribeContinuousBackups" {
            // Longer than the test may take.
            std::thread::sleep(support::PATIENCE * 2);
        }
        all(action)
    }));
    let start = std::time::Instant::now();
    let found = Examined::of(&room);
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(found.code, 0);
    found.has("recovery", "unknown", "not known: ");
    found.has("permission", "ok", "dynamodb:Scan");
}
