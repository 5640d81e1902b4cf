//! The result of a call.

use leasehold::{Done, Error, Lease, Once, OnceError, ReleaseOutcome};

/// The result of a call.
#[derive(Debug)]
pub(super) enum Gave {
    Lease(Lease),
    Held,
    Nothing,
    Failed(Error),
    /// `lost` has not fired within 1.5 leases.
    StillHeld,
    Lost,
    /// So many keys.
    Listed(usize),
    /// A grant was ended by force.
    Forced(ReleaseOutcome),
    /// It ran, and is remembered.
    Ran,
    /// It ran, and is not remembered.
    Unrecorded(Error),
    /// Another run is remembered.
    Done(Done),
    /// This is the payload.
    Wrote(&'static str),
}

pub(super) fn ran(answer: Result<Once<Vec<u8>>, OnceError<Vec<u8>, &'static str>>) -> Gave {
    match answer {
        Ok(Once::Ran(_)) => Gave::Ran,
        Ok(Once::Done(done)) | Err(OnceError::FailedBefore(done)) => Gave::Done(done),
        Err(OnceError::NotRun(error)) => Gave::Failed(error),
        Err(OnceError::Work(_)) => Gave::Nothing,
        Err(OnceError::NotRecorded { error, .. }) => Gave::Unrecorded(error),
    }
}

pub(super) fn leased(answer: Result<Lease, Error>) -> Gave {
    match answer {
        Ok(lease) => Gave::Lease(lease),
        Err(error) => Gave::Failed(error),
    }
}

pub(super) fn wrote<T>(data: &'static str, answer: Result<T, Error>) -> Gave {
    match answer {
        Ok(_) => Gave::Wrote(data),
        Err(error) => Gave::Failed(error),
    }
}

pub(super) fn nothing<T>(answer: Result<T, Error>) -> Gave {
    match answer {
        Ok(_) => Gave::Nothing,
        Err(error) => Gave::Failed(error),
    }
}
