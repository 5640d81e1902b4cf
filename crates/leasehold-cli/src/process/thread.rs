//! Work that may block, in a thread of its own. The runtime panics where the system refuses it a thread.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Starts `work` in a thread that is called `name`. The future has its result; when it is dropped, the work goes on.
///
/// # Errors
///
/// When the system refuses a thread, and when `work` panics.
pub(crate) fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    let (sender, done) = oneshot::channel();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody may listen any more.
        let _unheard = sender.send(work());
    });
    async move {
        started?;
        done.await.map_err(io::Error::other)
    }
}
