// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts beside each other, where they differ. Pure.

use std::fmt::Write;
use std::time::Duration;

use similar::{DiffOp, TextDiff};

/// The widest line; the lab indents it by two.
const WIDTH: usize = 98;
/// Rows that are shown around each one that differs.
const CONTEXT: usize = 1;
/// How long the shortest difference is looked for; see `state::diff`.
const TIME_MAX: Duration = Duration::from_secs(2);
/// The longest line of a guest that is shown whole.
const LINE_MAX: usize = 200;

/// The lines that stand beside each other, one for each text that has it.
type Row<'a> = Vec<Option<&'a str>>;

/// Renders where texts differ, each below its name: in columns if they fit, else one below the
/// other. Rows that differ are marked with `!`; of the others, those around them are shown.
pub fn render(names: &[&str], texts: &[&str]) -> String {
    let rows = align(texts);
    let shown: Vec<bool> = (0..rows.len())
        .map(|at| {
            let around = at.saturating_sub(CONTEXT)..rows.len().min(at + CONTEXT + 1);
            rows[around].iter().any(differs)
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| differs(row));
        let cells = cells.map(|row| row[column].unwrap_or_default());
        let cells = cells.chain([names[column]]);
        cells.map(length).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let gaps = 2 + 2 * names.len();
    if widths.iter().sum::<usize>() + gaps <= WIDTH {
        columns(names, &rows, &shown, &widths)
    } else {
        stacked(names, &rows, &shown)
    }
}

fn columns(names: &[&str], rows: &[Row<'_>], shown: &[bool], widths: &[usize]) -> String {
    let mut text = String::new();
    let mut line = |mark: char, cells: &mut dyn Iterator<Item = &str>| {
        let mut line = format!("{mark} ");
        for (cell, width) in cells.zip(widths) {
            let cell = cut(cell);
            let fill = width.saturating_sub(length(cell)) + 2;
            let _ = write!(line, "{cell}{:fill$}", "");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(' ', &mut names.iter().copied());
    let mut before = true;
    for (row, &shown) in rows.iter().zip(shown) {
        match (shown, before) {
            (true, _) if differs(row) => {
                line('!', &mut row.iter().map(|cell| cell.unwrap_or_default()));
            }
            // What all have is said once.
            (true, _) => line(' ', &mut row[0].into_iter()),
            (false, true) => line(' ', &mut ["…"].into_iter()),
            (false, false) => {}
        }
        before = shown;
    }
    text
}

fn stacked(names: &[&str], rows: &[Row<'_>], shown: &[bool]) -> String {
    let mut text = String::new();
    let width = names.iter().map(|name| length(name)).max().unwrap_or(0);
    let mut rest = rows.iter().zip(shown).peekable();
    while let Some((row, &is_shown)) = rest.next() {
        if !is_shown {
            continue;
        }
        if !differs(row) {
            let _ = writeln!(text, "  {:width$}  {}", "", cut(row[0].unwrap_or_default()));
            continue;
        }
        // All rows of one difference, a text after the other.
        let mut block = vec![row];
        while let Some((row, _)) = rest.next_if(|(row, _)| differs(row)) {
            block.push(row);
        }
        for (column, name) in names.iter().enumerate() {
            let mut cells = block.iter().filter_map(|row| row[column]).peekable();
            if cells.peek().is_none() {
                let _ = writeln!(text, "! {name:width$}  -");
            }
            for cell in cells {
                let _ = writeln!(text, "! {name:width$}  {}", cut(cell));
            }
        }
    }
    text
}

fn differs(row: &Row<'_>) -> bool {
    row.windows(2).any(|pair| pair[0] != pair[1])
}

/// The characters of a line as far as it is shown.
fn length(line: &str) -> usize {
    cut(line).chars().count()
}

fn cut(line: &str) -> &str {
    let end = line.char_indices().nth(LINE_MAX);
    end.map_or(line, |(at, _)| &line[..at])
}

/// Puts the lines of all texts beside those of the first.
fn align<'a>(texts: &[&'a str]) -> Vec<Row<'a>> {
    let Some((first, others)) = texts.split_first() else {
        return Vec::new();
    };
    let first: Vec<&str> = first.lines().collect();
    // Of each other text: what stands beside each line of the first, and what stands before it.
    let mut beside = vec![vec![None; first.len()]; others.len()];
    let mut between = vec![vec![Vec::new(); first.len() + 1]; others.len()];
    for (index, other) in others.iter().enumerate() {
        let other: Vec<&str> = other.lines().collect();
        let mut config = TextDiff::configure();
        let diff = config.timeout(TIME_MAX).diff_slices(&first, &other);
        for op in diff.ops() {
            let (old, new) = (op.old_range(), op.new_range());
            let pairs = match op {
                DiffOp::Delete { .. } => 0,
                _ => old.len().min(new.len()),
            };
            for pair in 0..pairs {
                beside[index][old.start + pair] = Some(other[new.start + pair]);
            }
            between[index][old.start + pairs].extend(&other[new.start + pairs..new.end]);
        }
    }
    let mut rows = Vec::new();
    for line in 0..=first.len() {
        let extra = between.iter().map(|of| of[line].len()).max().unwrap_or(0);
        for row in 0..extra {
            let cells = between.iter().map(|of| of[line].get(row).copied());
            rows.push([None].into_iter().chain(cells).collect());
        }
        if let Some(&cell) = first.get(line) {
            let cells = beside.iter().map(|of| of[line]);
            rows.push([Some(cell)].into_iter().chain(cells).collect());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "  livepatch v1: enabled 1\n    shop: patched 1: price\n  module shop: 1\n  \
                     call shop.price: 11\n  call shop.stock: 20\n  log one\n";

    #[test]
    fn two_stand_beside_each_other_where_they_differ() {
        let b = A.replace("stock: 20", "stock: 21") + "  log two\n";
        insta::assert_snapshot!(render(&["mainline", "tags"], &[A, &b]), @r"
          mainline               tags
          …
            call shop.price: 11
        !   call shop.stock: 20    call shop.stock: 21
            log one
        !                          log two
        ");
    }

    #[test]
    fn three_are_aligned_to_the_first() {
        let b = A.replace("  module shop: 1\n", "");
        let c = A.replace("price: 11\n", "price: 11\n  call shop.rate: 7\n");
        insta::assert_snapshot!(render(&["a", "b", "c"], &[A, &b, &c]), @r"
          a                 b  c
          …
              shop: patched 1: price
        !   module shop: 1       module shop: 1
            call shop.price: 11
        !                        call shop.rate: 7
            call shop.stock: 20
          …
        ");
    }

    #[test]
    fn what_is_too_wide_stands_below_each_other() {
        let a = format!("  same\n  log {}\n  more\n  same\n", "x".repeat(60));
        let b = format!("  same\n  log {}\n  same\n", "y".repeat(60));
        insta::assert_snapshot!(render(&["mainline", "tags"], &[&a, &b]), @r"
                      same
        ! mainline    log xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        ! mainline    more
        ! tags        log yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy
                      same
        ");
    }

    #[test]
    fn equal_texts_have_nothing_to_show_but_their_names() {
        assert_eq!(render(&["a", "b"], &[A, A]), "  a  b\n  …\n");
    }
}
