//! Markdown tables.

/// Prints a table; every row has as many cells as the head.
pub(crate) fn print(head: &[&str], rows: &[Vec<String>]) {
    println!("{}", render(head, rows));
}

pub(crate) fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let cells: Vec<String> = cells.collect();
        format!("| {} |", cells.join(" | "))
    };
    let padded = |cell: &str, width: usize| {
        let missing = width.saturating_sub(cell.chars().count());
        format!("{cell}{}", " ".repeat(missing))
    };
    let mut lines = vec![
        line(&mut head.iter().zip(&widths).map(|(c, w)| padded(c, *w))),
        line(&mut widths.iter().map(|w| "-".repeat(*w))),
    ];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().zip(&widths).map(|(c, w)| padded(c, *w)))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["long name".to_owned(), "1 – 2".to_owned()]];
        assert_eq!(
            super::render(&["what", "p50"], &rows),
            "| what      | p50   |\n| --------- | ----- |\n| long name | 1 – 2 |"
        );
    }
}
