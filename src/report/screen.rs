// SPDX-License-Identifier: MIT OR Apache-2.0
//! The room that a report for people has, and text laid out for it. Pure, but for the terminal's size.

use std::os::fd::AsFd;

use rustix::termios::{isatty, tcgetwinsize};

/// Columns of text for people, and what a line of a file is taken for.
const COLUMNS: usize = 100;
/// Rows of one report where nothing says otherwise; a summary below it makes thirty at most.
const ROWS: usize = 28;
/// Rows that a terminal has for more than one report: the summary, and the shell's prompt.
const OTHER_ROWS: usize = 2;
/// Fewer rows than these show nothing.
const ROWS_MIN: usize = 16;

/// The room for one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// The columns of a terminal; `None` where whoever shows the text breaks its lines.
    pub columns: Option<usize>,
    /// Rows of one report, at most.
    pub rows: usize,
}

impl Screen {
    /// A file, a pipe: lines stay whole, so that they can be searched for.
    pub const PAGE: Self = Self {
        columns: None,
        rows: ROWS,
    };

    /// A terminal of this size.
    pub fn of(columns: usize, rows: usize) -> Self {
        Self {
            columns: Some(columns.max(20)),
            rows: rows.saturating_sub(OTHER_ROWS).clamp(ROWS_MIN, ROWS),
        }
    }

    /// What a stream leads to.
    pub fn behind(stream: impl AsFd) -> Self {
        size(stream).map_or(Self::PAGE, |(columns, rows)| Self::of(columns, rows))
    }

    /// Text after a mark, both as rows. The further rows are indented by `indent` columns, and
    /// `mark` (of `taken` columns, colours not counted) stands before the first. Without a terminal
    /// each line stays whole.
    pub fn text(self, mark: &str, taken: usize, text: &str, indent: usize) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for line in text.lines() {
            let parts = match self.columns {
                None => vec![line.to_owned()],
                Some(columns) => {
                    let columns = columns.min(COLUMNS);
                    let before = if rows.is_empty() { taken } else { indent };
                    words(
                        line,
                        columns.saturating_sub(before),
                        columns.saturating_sub(indent),
                    )
                }
            };
            for part in parts {
                rows.push(match rows.is_empty() {
                    true => format!("{mark}{part}"),
                    false => format!("{:indent$}{part}", ""),
                });
            }
        }
        if rows.is_empty() {
            rows.push(mark.trim_end().to_owned());
        }
        rows
    }

    /// A line of evidence, indented, as rows.
    pub fn line(self, line: &str, indent: usize) -> Vec<String> {
        let Some(columns) = self.columns else {
            return vec![format!("{:indent$}{line}", "")];
        };
        let (first, rest) = (
            columns.saturating_sub(indent),
            columns.saturating_sub(indent + 2),
        );
        let rows = words(line, first, rest).into_iter().enumerate();
        rows.map(|(number, row)| format!("{:1$}{row}", "", indent + if number > 0 { 2 } else { 0 }))
            .collect()
    }

    /// A line that must be one row.
    pub fn cut(self, line: &str) -> String {
        match self.columns {
            None => line.to_owned(),
            Some(columns) => cut(line, columns),
        }
    }

    /// How many rows a line takes: elsewhere than on a terminal as many as on one of a hundred
    /// columns.
    pub fn cost(self, line: &str) -> usize {
        let columns = self.columns.unwrap_or(COLUMNS);
        length(line).div_ceil(columns).max(1)
    }

    /// Whether a line is one row.
    pub fn fits(self, line: &str) -> bool {
        self.columns.is_none_or(|columns| length(line) <= columns)
    }
}

/// The columns of a line, whatever its colours.
fn length(line: &str) -> usize {
    let (mut length, mut colour) = (0, false);
    for c in line.chars() {
        colour |= c == '\u{1b}';
        length += usize::from(!colour);
        colour &= c != 'm';
    }
    length
}

/// Columns and rows, of a terminal that has some.
pub fn size(stream: impl AsFd) -> Option<(usize, usize)> {
    let size = isatty(&stream)
        .then(|| tcgetwinsize(&stream).ok())
        .flatten()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}

/// The beginning of a line that is too long, and a sign that it goes on.
pub fn cut(line: &str, columns: usize) -> String {
    match line.chars().count() > columns {
        true => line
            .chars()
            .take(columns.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => line.to_owned(),
    }
}

/// Breaks a line that is too long between words; a word that fits nowhere is broken itself.
fn words(line: &str, first: usize, rest: usize) -> Vec<String> {
    if line.chars().count() <= first {
        return vec![line.to_owned()];
    }
    let (mut rows, mut row, mut room) = (Vec::new(), String::new(), first.max(8));
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    row += &indent;
    let mut taken = indent.len();
    for word in tokens(line) {
        let length = word.chars().count();
        let is_first = taken == indent.len();
        if !is_first && taken + 1 + length > room {
            rows.push(std::mem::take(&mut row));
            (taken, room) = (0, rest.max(8));
        } else if !is_first {
            row.push(' ');
            taken += 1;
        }
        for c in word.chars() {
            if taken >= room {
                rows.push(std::mem::take(&mut row));
                (taken, room) = (0, rest.max(8));
            }
            row.push(c);
            taken += 1;
        }
    }
    rows.push(row);
    rows
}

/// The words of a line. A number and its unit are one.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        let is_unit = matches!(
            word.trim_end_matches([',', ';', ':', '.']),
            "s" | "min" | "MiB"
        );
        match tokens.last_mut() {
            Some(number) if is_unit && number.ends_with(|c: char| c.is_ascii_digit()) => {
                *number += " ";
                *number += word;
            }
            _ => tokens.push(word.to_owned()),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminals_rows_are_never_broken_by_the_terminal() {
        let screen = Screen::of(40, 24);
        let long = "step 2 (read /proc/cmdline): lab_new_0_cmdline_proc_show+0xc/0x20_and_a_word_of_many_columns x";
        for rows in [
            screen.text("  next: ", 8, long, 8),
            screen.line(long, 4),
            vec![screen.cut(long)],
        ] {
            assert!(rows.iter().all(|row| row.chars().count() <= 40), "{rows:?}");
        }
        let whole = screen.text("", 0, long, 4).join(" ").replace(' ', "");
        assert_eq!(whole, long.replace(' ', ""), "nothing is lost");
        let rows = screen.text(
            "next: ",
            6,
            "one two three four five six seven\nand eight",
            6,
        );
        assert_eq!(
            rows,
            ["next: one two three four five six seven", "      and eight"]
        );
    }

    #[test]
    fn a_unit_stays_with_its_number() {
        let rows = Screen::of(24, 24).text("passed  ", 8, "x on tags, 21.9 s; and more", 2);
        assert_eq!(rows, ["passed  x on tags,", "  21.9 s; and more"]);
    }

    #[test]
    fn in_a_file_lines_stay_whole() {
        let long = "word ".repeat(50);
        let page = Screen::PAGE;
        assert_eq!(page.text("note  ", 6, &long, 6), [format!("note  {long}")]);
        assert_eq!(page.line(&long, 2), [format!("  {long}")]);
        assert_eq!(
            (page.cut(&long), page.cost(&long), page.cost("")),
            (long, 3, 1)
        );
    }

    #[test]
    fn a_small_terminal_still_has_room_for_the_cause() {
        assert_eq!(Screen::of(80, 24).rows, 22);
        assert_eq!(Screen::of(80, 5).rows, ROWS_MIN);
        assert_eq!(
            Screen::of(300, 200),
            Screen {
                columns: Some(300),
                rows: ROWS
            }
        );
    }
}
