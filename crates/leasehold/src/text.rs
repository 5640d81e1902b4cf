//! Text for people.

/// Escapes control characters: a line break in another client's key or label must not look like a
/// second message.
pub(crate) fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_escapes_and_nothing_else_changes() {
        assert_eq!(one_line("a `ä` 漢".into()), "a `ä` 漢");
        assert_eq!(one_line("a\nb\x1b".into()), "a\\nb\\u{1b}");
    }
}
