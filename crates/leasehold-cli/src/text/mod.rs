//! Text for terminals and shells.

pub(crate) mod duration;
pub(crate) mod times;

/// Control characters as escapes, line breaks as they are.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// One line: line breaks as escapes, too, so that a label cannot forge a message.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).replace('\n', "\\n")
}

/// A word, quoted for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("nightly-report"), "nightly-report");
        assert_eq!(quoted("dynamodb://t?a=b&c=d"), "'dynamodb://t?a=b&c=d'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\rc\nd"), "a\\u{1b}[2Jb\\rc\nd");
        assert_eq!(plain("ä 漢"), "ä 漢");
        assert_eq!(one_line("a\nb\x1b"), "a\\nb\\u{1b}");
    }
}
