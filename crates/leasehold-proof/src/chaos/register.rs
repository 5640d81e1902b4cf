//! The protected resource: a fenced register on loopback, one for each store.
//!
//! A client sends the line `KEY TOKEN`, and gets `accepted` or `refused`: a token smaller than the largest seen
//! is refused. Decision and record are in one critical section, so the history has the order of decisions. The
//! register is in the judging process, which is never stopped.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::event::now;
use super::history::History;

/// A running register; it stops when this value is dropped.
#[derive(Debug)]
pub(super) struct Register {
    address: String,
    task: JoinHandle<()>,
}

impl Register {
    /// Starts on a free port of loopback.
    pub(super) async fn start(history: Arc<Mutex<History>>) -> Result<Register> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("cannot listen on loopback")?;
        let address = listener.local_addr()?.to_string();
        let task = tokio::runtime::Handle::current().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let history = history.clone();
                // A client that dies in the middle of a line has not asked.
                connections.spawn(async move {
                    let _gone = serve(stream, &history).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Register { address, task })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, history: &Mutex<History>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let (key, token) = line.trim_end().split_once(' ').context("not a write")?;
        let token: u64 = token.parse()?;
        let accepted = {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            history.write(key, token, now())
        };
        let answer: &[u8] = match accepted {
            true => b"accepted\n",
            false => b"refused\n",
        };
        stream.get_mut().write_all(answer).await?;
        line.clear();
    }
    Ok(())
}

/// A client of the register, in another process.
#[derive(Debug)]
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) async fn connect(address: &str) -> Result<Client> {
        let stream = TcpStream::connect(address)
            .await
            .context("cannot reach the register")?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Writes; whether it was accepted.
    pub(super) async fn write(&mut self, key: &str, token: u64) -> Result<bool> {
        let line = format!("{key} {token}\n");
        self.0.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await?;
        match answer.as_str() {
            "accepted\n" => Ok(true),
            "refused\n" => Ok(false),
            _ => bail!("the register answered {answer:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn older_tokens_are_refused_and_all_writes_are_recorded() {
        let history = Arc::<Mutex<History>>::default();
        let register = Register::start(history.clone()).await.expect("starts");
        let mut old = Client::connect(register.address()).await.expect("listens");
        let mut new = Client::connect(register.address()).await.expect("listens");
        assert!(old.write("k", 1).await.expect("answers"));
        assert!(new.write("k", 2).await.expect("answers"));
        assert!(!old.write("k", 1).await.expect("answers"));
        let history = history.lock().expect("not poisoned");
        let seen: Vec<_> = history
            .writes
            .iter()
            .map(|write| (write.token, write.accepted))
            .collect();
        assert_eq!(seen, [(1, true), (2, true), (1, false)]);
    }
}
