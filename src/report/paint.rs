// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colours: only on a terminal, or when asked for.

use std::io::IsTerminal;

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout(color: Color) -> Self {
        Self::decide(color, std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub fn stderr(color: Color) -> Self {
        Self::decide(color, std::io::stderr().is_terminal())
    }

    fn decide(color: Color, terminal: bool) -> Self {
        Self(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        })
    }

    /// Whether it colours at all.
    pub fn is_on(self) -> bool {
        self.0
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Good.
    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Bad.
    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    /// To be noticed.
    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Important.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A diff: added lines green, removed ones red.
    pub fn diff(self, text: &str) -> String {
        let line = |line: &str| match line.chars().next() {
            Some('+') => self.green(line),
            Some('-') => self.red(line),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// A row of a diff that is indented by four columns.
    pub fn diff_row(self, row: &str) -> String {
        match row.strip_prefix("    ") {
            Some(line) => format!("    {}", self.diff(line)),
            None => row.to_owned(),
        }
    }
}
