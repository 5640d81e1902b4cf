//! Whose locks are compared.

/// Whose lock it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Who {
    Ours,
    FSharp,
    Raw,
    DLock,
    DynamoDbLease,
    DynamoDbLock,
    Node,
    Python,
    Java,
    Go,
    Semaphore,
}

impl Who {
    pub(crate) const ALL: [Who; 11] = [
        Who::Ours,
        Who::FSharp,
        Who::Raw,
        Who::DLock,
        Who::DynamoDbLease,
        Who::DynamoDbLock,
        Who::Node,
        Who::Python,
        Who::Java,
        Who::Go,
        Who::Semaphore,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Who::Ours => "leasehold",
            Who::FSharp => "F# algorithm",
            Who::Raw => "raw UpdateItem x 2",
            Who::DLock => "dlock 0.2.0",
            Who::DynamoDbLease => "dynamodb-lease 0.22.1",
            Who::DynamoDbLock => "dynamodb_lock 0.6.1",
            Who::Node => "npm dynamodb-lock-client 0.7.3",
            Who::Python => "PyPI python-dynamodb-lock 0.9.1",
            Who::Java => "AWS's Java client 1.4.0",
            Who::Go => "Go dynamolock 2.2.0",
            Who::Semaphore => "AWS's semaphore sample",
        }
    }

    /// As `--only` and its driver know it, and a part of its table's name.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Who::Ours => "leasehold",
            Who::FSharp => "fsharp",
            Who::Raw => "raw",
            Who::DLock => "dlock",
            Who::DynamoDbLease => "dynamodb-lease",
            Who::DynamoDbLock => "dynamodb_lock",
            Who::Node => "node",
            Who::Python => "python",
            Who::Java => "java",
            Who::Go => "go",
            Who::Semaphore => "semaphore",
        }
    }

    /// The key of its table.
    pub(crate) fn key_attributes(self) -> &'static [&'static str] {
        match self {
            Who::Ours | Who::FSharp | Who::Raw => &["LockKey"],
            Who::DLock => &["lock_name"],
            Who::DynamoDbLease | Who::DynamoDbLock | Who::Java | Who::Go => &["key"],
            Who::Node => &["id"],
            Who::Python => &["lock_key", "sort_key"],
            Who::Semaphore => &["LockName"],
        }
    }
}
