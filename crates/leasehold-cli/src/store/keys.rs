//! The keys of a table with other items, as parameters of its URL.

use std::fmt;

/// Keys, prefix and TTL of a table. Those of FSharp.DynamoDbLock replace `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Keys {
    /// The name of the partition key.
    pub(crate) key: Option<String>,
    /// The name of the sort key.
    pub(crate) sort: Option<String>,
    /// The sort key of every lock.
    pub(crate) sort_value: Option<String>,
    /// The character of a lock's name after which its sort key begins.
    pub(crate) sort_after: Option<String>,
    /// A text before the partition key of every lock.
    pub(crate) prefix: Option<String>,
    /// The attribute that TTL is on.
    pub(crate) ttl: Option<String>,
    /// Whether the table is one of multi-Region strong consistency: `true` or `false`.
    pub(crate) mrsc: Option<String>,
}

impl Keys {
    /// Every parameter and its value.
    pub(super) fn parameters(&self) -> [(&'static str, &Option<String>); 7] {
        [
            ("key", &self.key),
            ("sort", &self.sort),
            ("sort_value", &self.sort_value),
            ("sort_after", &self.sort_after),
            ("prefix", &self.prefix),
            ("ttl", &self.ttl),
            ("mrsc", &self.mrsc),
        ]
    }

    /// Where the value of this parameter goes.
    pub(super) fn place(&mut self, parameter: &str) -> Option<&mut Option<String>> {
        Some(match parameter {
            "key" => &mut self.key,
            "sort" => &mut self.sort,
            "sort_value" => &mut self.sort_value,
            "sort_after" => &mut self.sort_after,
            "prefix" => &mut self.prefix,
            "ttl" => &mut self.ttl,
            "mrsc" => &mut self.mrsc,
            _ => return None,
        })
    }

    /// The name of the partition key.
    pub(super) fn partition(&self) -> &str {
        self.key.as_deref().unwrap_or("LockKey")
    }

    /// Whether the table is one of multi-Region strong consistency.
    pub(crate) fn is_mrsc(&self) -> bool {
        self.mrsc.as_deref() == Some("true")
    }

    /// Whether the parameters fit together.
    ///
    /// # Errors
    ///
    /// A fragment for a message, and a `hint:` line.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(other) = self
            .mrsc
            .as_deref()
            .filter(|m| !["true", "false"].contains(m))
        {
            return Err(format!(
                "the store parameter `mrsc` is `{other}`\nhint: write `mrsc=true`, or omit it"
            ));
        }
        let both = "`sort_value=TEXT`, the sort key of all locks, or `sort_after=/`, which splits a lock's name there";
        match (&self.sort, &self.sort_value, &self.sort_after) {
            (None, None, None) | (Some(_), Some(_), None) => Ok(()),
            (Some(_), None, Some(after)) if after.chars().count() == 1 => Ok(()),
            (Some(_), None, Some(after)) => Err(format!(
                "the store parameter `sort_after` is `{after}`, which is not one character\nhint: write \
                 `sort_after=/` or `sort_after=%23`"
            )),
            (Some(_), None, None) => Err(format!(
                "the sort key has no value\nhint: add {both}"
            )),
            (Some(_), Some(_), Some(_)) => Err(format!(
                "the sort key has two values\nhint: write either {both}"
            )),
            (None, ..) => Err(
                "the sort key has no name\nhint: add `sort=NAME`, or omit `sort_value` and `sort_after`"
                    .to_owned(),
            ),
        }
    }

    /// The name of a lock that has the form of every name here.
    pub(super) fn name_of(&self, first: &str, second: &str) -> String {
        let separator = self.sort_after.as_deref().unwrap_or("-");
        format!("{first}{separator}{second}")
    }
}

/// What a lock record's key is, for people.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key is `{}` (S, HASH)", self.partition())?;
        if let Some(sort) = &self.sort {
            write!(f, ", `{sort}` (S, RANGE)")?;
        }
        let ttl = self.ttl.as_deref().unwrap_or("ExpireInUnixSeconds");
        match self.is_mrsc() {
            true => write!(f, ", without TTL: `leasehold sweep` deletes old records"),
            false => write!(f, ", TTL is on for `{ttl}`"),
        }
    }
}
