//! Locks in a DynamoDB table.
