//! A server with a certificate of its own, and a proxy in front of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server for `localhost` whose certificate nobody has signed.
pub(crate) struct Secure {
    pub(crate) port: u16,
    /// In PEM form, to be trusted.
    pub(crate) certificate: String,
    pub(crate) requests: Arc<Mutex<String>>,
}

/// Answers every request with this.
pub(crate) fn secure(answer: &'static str) -> Secure {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Secure {
        port: listener.local_addr().unwrap().port(),
        certificate: made.cert.pem(),
        requests: Arc::default(),
    };
    let requests = server.requests.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, requests) = (config.clone(), requests.clone());
            thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                // A handshake that fails is what some tests are about.
                if let Some(request) = super::net::whole_request(&mut stream) {
                    requests.lock().unwrap().push_str(&request);
                    let _sent = stream.write_all(answer.as_bytes());
                    stream.conn.send_close_notify();
                    let _sent = stream.flush();
                }
            });
        }
    });
    server
}

/// A proxy that leads every CONNECT to this port of the machine, and counts them.
pub(crate) fn tunnel(port: u16) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tunnels = Arc::<AtomicUsize>::default();
    let seen = tunnels.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let seen = seen.clone();
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match client.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                if !head.starts_with(b"CONNECT ") {
                    return;
                }
                seen.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _copied = std::io::copy(&mut server, &mut client);
                let _closed = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, tunnels)
}
