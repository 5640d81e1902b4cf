//! Every way to AWS credentials, a region and an endpoint: each against servers of the test on loopback.

use crate::support;
use std::fs;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use crate::support::{Room, Wrapper, assert_message, net, until};

/// The access key that a provider gives.
const KEY: &str = "AKIDPROVIDED";

/// A table that refuses everybody, and what it has been asked.
struct Table {
    address: String,
    requests: Arc<Mutex<String>>,
}

impl Table {
    fn new() -> Table {
        let (address, requests) = net::refusing(400, "AccessDeniedException", "reached");
        Table { address, requests }
    }

    /// The command with an empty home and only the endpoint of the table.
    fn command(&self, room: &Room) -> Command {
        let mut command = room.command(&["run", "job", "-n", "--", "true"]);
        command
            .env("LEASEHOLD_STORE", "dynamodb://locks")
            .env(
                "AWS_ENDPOINT_URL_DYNAMODB",
                format!("http://{}", self.address),
            )
            .env("AWS_REGION", "eu-test-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", room.directory())
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY");
        command
    }

    /// The table was asked with this key, for this region.
    #[track_caller]
    fn reached(&self, output: &Output, key: &str, region: &str) {
        assert_message(output, 77, "reached", "");
        let requests = self.requests.lock().unwrap();
        let credential = format!("Credential={key}/");
        assert!(requests.contains(&credential), "{requests}");
        assert!(
            requests.contains(&format!("/{region}/dynamodb/aws4_request")),
            "{requests}"
        );
    }
}

fn config(room: &Room, text: &str) -> String {
    let path = room.path("config");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The answer of STS to AssumeRole and AssumeRoleWithWebIdentity.
fn sts() -> (String, Arc<Mutex<String>>) {
    net::answering(|request| {
        let action = match request.contains("AssumeRoleWithWebIdentity") {
            true => "AssumeRoleWithWebIdentity",
            false => "AssumeRole",
        };
        let body = format!(
            "<{action}Response><{action}Result><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn>\
             <AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{KEY}</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>\
             </Credentials></{action}Result></{action}Response>"
        );
        net::answer(200, "text/xml", &body)
    })
}

/// The credentials as containers and machines give them.
fn machine_credentials() -> String {
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"{KEY}","SecretAccessKey":"s","Token":"t",
        "Expiration":"2100-01-01T00:00:00Z","LastUpdated":"2026-01-01T00:00:00Z"}}"#
    )
}

#[test]
fn the_environment() {
    let (room, table) = (Room::new(), Table::new());
    let mut command = table.command(&room);
    let output = command
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .output()
        .unwrap();
    table.reached(&output, KEY, "eu-test-1");
}

#[test]
fn a_profile_gives_keys_and_a_region() {
    for by_url in [false, true] {
        let (room, table) = (Room::new(), Table::new());
        let file = config(
            &room,
            &format!(
                "[profile work]\nregion = eu-test-2\naws_access_key_id = {KEY}\naws_secret_access_key = s\n"
            ),
        );
        let mut command = table.command(&room);
        command
            .env_remove("AWS_REGION")
            .env("AWS_CONFIG_FILE", file);
        match by_url {
            true => command.env("LEASEHOLD_STORE", "dynamodb://locks?profile=work"),
            false => command.env("AWS_PROFILE", "work"),
        };
        if by_url {
            // The profile of the URL has its own region only as the last one.
            command
                .env("AWS_REGION", "eu-test-3")
                .env("AWS_ACCESS_KEY_ID", "AKIDOTHER");
            command.env("AWS_SECRET_ACCESS_KEY", "s");
        }
        let region = if by_url { "eu-test-3" } else { "eu-test-2" };
        table.reached(&command.output().unwrap(), KEY, region);
    }
}

#[test]
fn a_profile_with_a_role() {
    let (room, table) = (Room::new(), Table::new());
    let (sts, asked) = sts();
    let file = config(
        &room,
        "[profile base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = s\n\
         [profile work]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n",
    );
    let mut command = table.command(&room);
    let output = command
        .env("AWS_CONFIG_FILE", file)
        .env("AWS_PROFILE", "work")
        .env("AWS_ENDPOINT_URL_STS", format!("http://{sts}"))
        .output()
        .unwrap();
    table.reached(&output, KEY, "eu-test-1");
    let asked = asked.lock().unwrap();
    assert!(
        asked.contains("Action=AssumeRole&") && asked.contains("Credential=AKIDBASE/"),
        "{asked}"
    );
}

#[test]
fn a_web_identity() {
    let (room, table) = (Room::new(), Table::new());
    let (sts, asked) = sts();
    fs::write(room.path("token"), "the-token").unwrap();
    let mut command = table.command(&room);
    let output = command
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", room.path("token"))
        .env("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
        .env("AWS_ENDPOINT_URL_STS", format!("http://{sts}"))
        .output()
        .unwrap();
    table.reached(&output, KEY, "eu-test-1");
    assert!(asked.lock().unwrap().contains("WebIdentityToken=the-token"));
}

#[test]
fn single_sign_on() {
    let (room, table) = (Room::new(), Table::new());
    let (portal, asked) = net::answering(|_| {
        let body = format!(
            r#"{{"roleCredentials":{{"accessKeyId":"{KEY}","secretAccessKey":"s","sessionToken":"t","expiration":4102444800000}}}}"#
        );
        net::answer(200, "application/json", &body)
    });
    let file = config(
        &room,
        "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = r\n\
         [sso-session corp]\nsso_region = eu-test-1\nsso_start_url = https://corp.example/start\n",
    );
    // The name is the SHA-1 of the session's name.
    let cache = room.path(".aws/sso/cache");
    fs::create_dir_all(&cache).unwrap();
    let sha1 = support::command("sha1sum")
        .stdin(text(&room, "corp"))
        .output()
        .unwrap();
    let sha1 = String::from_utf8(sha1.stdout).unwrap();
    let token = r#"{"accessToken":"cached","expiresAt":"2100-01-01T00:00:00Z","region":"eu-test-1","startUrl":"https://corp.example/start"}"#;
    fs::write(cache.join(format!("{}.json", &sha1[..40])), token).unwrap();
    let mut command = table.command(&room);
    let output = command
        .env("AWS_CONFIG_FILE", file)
        .env("AWS_PROFILE", "work")
        .env("AWS_ENDPOINT_URL_SSO", format!("http://{portal}"))
        .output()
        .unwrap();
    table.reached(&output, KEY, "eu-test-1");
    assert!(
        asked
            .lock()
            .unwrap()
            .contains("x-amz-sso_bearer_token: cached")
    );
}

/// Standard input with this text.
fn text(room: &Room, text: &str) -> fs::File {
    fs::write(room.path("input"), text).unwrap();
    fs::File::open(room.path("input")).unwrap()
}

#[test]
fn aws_login() {
    let (room, table) = (Room::new(), Table::new());
    let session = "arn:aws:iam::123456789012:user/Admin";
    let file = config(
        &room,
        &format!("[profile work]\nlogin_session = {session}\n"),
    );
    let cache = room.path("login");
    fs::create_dir_all(&cache).unwrap();
    let sha256 = support::command("sha256sum")
        .stdin(text(&room, session))
        .output()
        .unwrap();
    let sha256 = String::from_utf8(sha256.stdout).unwrap();
    let token = format!(
        r#"{{"accessToken":{{"accessKeyId":"{KEY}","secretAccessKey":"s","sessionToken":"t","accountId":"123456789012",
        "expiresAt":"2100-01-01T00:00:00Z"}},"tokenType":"aws_sigv4","refreshToken":"r","clientId":"c",
        "dpopKey":"-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n"}}"#
    );
    fs::write(cache.join(format!("{}.json", &sha256[..64])), token).unwrap();
    let mut command = table.command(&room);
    let output = command
        .env("AWS_CONFIG_FILE", file)
        .env("AWS_PROFILE", "work")
        .env("AWS_LOGIN_CACHE_DIRECTORY", cache)
        .output()
        .unwrap();
    table.reached(&output, KEY, "eu-test-1");
}

#[test]
fn a_container_and_a_pod() {
    for pod in [false, true] {
        let (room, table) = (Room::new(), Table::new());
        let (agent, asked) =
            net::answering(|_| net::answer(200, "application/json", &machine_credentials()));
        let mut command = table.command(&room);
        command.env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("http://{agent}/creds"),
        );
        if pod {
            // EKS Pod Identity renews the token in its file.
            fs::write(room.path("token"), "of-the-pod").unwrap();
            command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", room.path("token"));
        } else {
            command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-task");
        }
        table.reached(&command.output().unwrap(), KEY, "eu-test-1");
        let token = if pod { "of-the-pod" } else { "of-the-task" };
        let asked = asked.lock().unwrap().to_lowercase();
        assert!(
            asked.contains(&format!("authorization: {token}")),
            "{asked}"
        );
    }
}

#[test]
fn a_machine_gives_credentials_and_the_region_to_who_has_a_session() {
    let (room, table) = (Room::new(), Table::new());
    let (metadata, asked) = net::answering(|request| {
        if request.starts_with("PUT /latest/api/token") {
            let answer = net::answer(200, "text/plain", "session-token");
            return answer.replacen(
                "\r\n",
                "\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n",
                1,
            );
        }
        // IMDSv2: without the token of a session there is nothing.
        if !request
            .to_lowercase()
            .contains("x-aws-ec2-metadata-token: session-token")
        {
            return net::answer(401, "text/plain", "");
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path.trim_end_matches('/') {
            "/latest/meta-data/placement/region" => net::answer(200, "text/plain", "eu-test-9"),
            path if path.ends_with("/machine-role") => {
                net::answer(200, "application/json", &machine_credentials())
            }
            path if path.contains("security-credentials") => {
                net::answer(200, "text/plain", "machine-role")
            }
            _ => net::answer(404, "text/plain", ""),
        }
    });
    let mut command = table.command(&room);
    let output = command
        .env_remove("AWS_REGION")
        .env_remove("AWS_EC2_METADATA_DISABLED")
        .env(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            format!("http://{metadata}"),
        )
        .output()
        .unwrap();
    table.reached(&output, KEY, "eu-test-9");
    assert!(asked.lock().unwrap().contains("PUT /latest/api/token"));
}

/// The host that a proxy is asked for.
fn asked_host(room: &Room, environment: &[(&str, &str)]) -> String {
    let (proxy, asked) = net::answering(|_| net::answer(403, "text/plain", "no"));
    let mut command = Table::new().command(room);
    command
        .env_remove("AWS_ENDPOINT_URL_DYNAMODB")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .env("HTTPS_PROXY", format!("http://{proxy}"))
        .envs(environment.iter().copied());
    // It would try for 10 s.
    let mut run = Wrapper(command.spawn().unwrap());
    let mut host = String::new();
    until("the proxy is asked", || {
        let asked = asked.lock().unwrap();
        let line = asked.lines().find_map(|line| line.strip_prefix("CONNECT "));
        host = line
            .and_then(|line| line.split(' ').next())
            .unwrap_or_default()
            .to_owned();
        !host.is_empty() || !run.running()
    });
    host
}

#[test]
fn fips_and_dual_stack_have_their_own_hosts() {
    let room = Room::new();
    for (environment, host) in [
        (&[][..], "dynamodb.us-east-1.amazonaws.com:443"),
        (
            &[("AWS_USE_FIPS_ENDPOINT", "true")],
            "dynamodb-fips.us-east-1.amazonaws.com:443",
        ),
        (
            &[("AWS_USE_DUALSTACK_ENDPOINT", "true")],
            "dynamodb.us-east-1.api.aws:443",
        ),
        (
            &[
                ("AWS_ENDPOINT_URL", "https://other.example"),
                ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
            ],
            "dynamodb.us-east-1.amazonaws.com:443",
        ),
        (
            &[("AWS_ENDPOINT_URL", "https://other.example")],
            "other.example:443",
        ),
        (
            &[
                ("AWS_ENDPOINT_URL", "https://other.example"),
                ("AWS_ENDPOINT_URL_DYNAMODB", "https://table.example"),
            ],
            "table.example:443",
        ),
    ] {
        assert_eq!(asked_host(&room, environment), host, "{environment:?}");
    }
}

#[test]
fn fips_and_dual_stack_of_a_profile() {
    let room = Room::new();
    for (setting, host) in [
        (
            "use_fips_endpoint",
            "dynamodb-fips.us-east-1.amazonaws.com:443",
        ),
        ("use_dualstack_endpoint", "dynamodb.us-east-1.api.aws:443"),
    ] {
        let file = config(&room, &format!("[default]\n{setting} = true\n"));
        assert_eq!(asked_host(&room, &[("AWS_CONFIG_FILE", &file)]), host);
    }
}
