//! Locks in a SQLite file.
