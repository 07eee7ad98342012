// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps in bash: texts of a scenario as words and comments of a script, and calls of the functions
//! in `export/sh/library.sh`.

use std::time::Duration;

use super::details::Transition;
use crate::klp::{Errno, strerror};

/// How often `loop_until` of functions.sh looks each second.
const TRIES_PER_SECOND: u128 = 10;

/// How wide a line of a script may get before its words get a line each.
const WIDTH: usize = 80;

/// One word that bash reads as exactly this text, which has no NUL.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:,=@%+-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else if !text.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Text that ends with its line, whatever it holds.
pub(crate) fn comment(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).collect()
}

/// Text as the lines of a comment, whatever it holds.
pub(crate) fn comment_lines(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in comment(text).split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line != "#" {
            lines += &line;
            lines += "\n";
            "#".clone_into(&mut line);
        }
        line += " ";
        line += word;
    }
    lines + &line + "\n"
}

/// A call of one of the library's functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// The function, perhaps with a variable set before it. Not quoted.
    function: String,
    /// Its arguments, quoted.
    words: Vec<String>,
}

impl Command {
    /// A call with these arguments, which are quoted here. A list without any is an empty text.
    pub(crate) fn new<T: AsRef<str>>(
        function: impl Into<String>,
        arguments: impl IntoIterator<Item = T>,
    ) -> Self {
        let words: Vec<_> = arguments.into_iter().map(|a| word(a.as_ref())).collect();
        let words = if words.is_empty() {
            vec![word("")]
        } else {
            words
        };
        Self {
            function: function.into(),
            words,
        }
    }

    /// A call without arguments.
    pub(crate) fn bare(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            words: Vec::new(),
        }
    }

    /// The call as lines of a script. Only their beginnings are indented: a quoted text may have
    /// lines of its own.
    pub(crate) fn render(&self, indent: &str) -> String {
        let mut line = format!("{indent}{}", self.function);
        for word in &self.words {
            line += " ";
            line += word;
        }
        if line.chars().count() > WIDTH && self.words.len() > 1 {
            line = format!("{indent}{}", self.function);
            for word in &self.words {
                line += &format!(" \\\n{indent}\t{word}");
            }
        }
        line + "\n"
    }
}

/// What comes after an action that may start a transition. One that must fail starts none.
pub(super) fn follow(
    errno: Option<Errno>,
    transition: &Transition,
    limit: Option<Duration>,
) -> Option<Command> {
    if errno.is_some() {
        return None;
    }
    let held_in = match transition {
        Transition::None => return None,
        Transition::Completes => return Some(Command::bare(within(limit, "lab_settle"))),
        Transition::Held => "",
        Transition::HeldIn(function) => function,
    };
    Some(Command::new(within(limit, "lab_held"), [held_in]))
}

/// A function that waits, with the step's own limit if it has one.
pub(super) fn within(limit: Option<Duration>, function: &str) -> String {
    match limit {
        None => function.to_owned(),
        Some(limit) => {
            let tries = (limit.as_millis() * TRIES_PER_SECOND).div_ceil(1000).max(1);
            format!("MAX_RETRIES={tries} {function}")
        }
    }
}

pub(super) fn expected(errno: Option<Errno>) -> &'static str {
    errno.map_or("", strerror)
}

pub(super) fn write(errno: Option<Errno>, path: &str, data: &str) -> Command {
    Command::new("lab_write", [expected(errno), path, data])
}

/// The lab's files of its own process are those of an agent that waits for the next step. In a
/// script they are those of a tool that comes and goes.
pub(super) fn own_process(path: &str) -> Result<(), String> {
    let own = ["/proc/self/", "/proc/thread-self/"];
    if own.iter().any(|folder| path.starts_with(folder)) {
        return Err(format!("{path} is not the same process in a script"));
    }
    Ok(())
}

/// Bash has no text with a NUL.
pub(super) fn no_nul(text: &str) -> Result<&str, String> {
    if text.contains('\0') {
        return Err("bash cannot hold a text with a NUL".to_owned());
    }
    Ok(text)
}

/// What a file must hold, whose last newline is not in the text.
pub(super) fn with_newline(text: &str) -> Result<String, String> {
    let text = no_nul(text)?;
    if text.ends_with('\n') {
        return Err("bash drops all of the newlines at a text's end".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Process;

    #[test]
    fn bash_reads_the_very_text() {
        let texts = [
            "",
            "plain-word_1.2/3:4,5=6@7%8+9",
            "two words",
            "it's",
            "'",
            "$(touch /tmp/x) `id` ${HOME} $HOME",
            "a\"b\\c\\",
            "line 1\nline 2\n\n",
            "* ? [a] ~ ! # & | ; < > ( ) { }",
            "\t\r\u{1b}[31m é",
            "-n",
        ];
        for text in texts {
            let script = format!("printf '%s.' {}", word(text));
            let output = Process::new("bash").args(["-c", &script]).output().unwrap();
            let read = String::from_utf8(output.stdout).unwrap();
            assert_eq!(read, format!("{text}."));
        }
    }

    #[test]
    fn a_comment_is_one_line() {
        assert_eq!(comment("a\nrm -rf /\r\u{1b}x"), "a rm -rf /  x");
        let words = comment_lines(&"seven \n".repeat(14));
        assert_eq!(words, format!("#{}\n# seven\n", " seven".repeat(13)));
    }

    #[test]
    fn long_calls_get_a_line_for_each_word() {
        let short = Command::new("lab_call", ["12", "shop", "price,1"]);
        assert_eq!(short.render("\t"), "\tlab_call 12 shop price,1\n");
        let part = "a part of a log line, and rather long";
        let long = Command::new("lab_log", [part, part]).render("\t");
        assert_eq!(
            long,
            format!("\tlab_log \\\n\t\t\"{part}\" \\\n\t\t\"{part}\"\n")
        );
    }
}
