// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text of a scenario in a bash script: as one word, or as a comment.

/// How wide a line of a script may get before its words get a line each.
const WIDTH: usize = 80;

/// One word that bash reads as exactly this text, which has no NUL.
pub(super) fn word(text: &str) -> String {
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
pub(super) fn comment(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).collect()
}

/// Text as the lines of a comment, whatever it holds.
pub(super) fn comment_lines(text: &str) -> String {
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
pub(super) struct Command {
    /// The function, perhaps with a variable set before it. Not quoted.
    function: String,
    /// Its arguments, quoted.
    words: Vec<String>,
}

impl Command {
    /// A call with these arguments, which are quoted here. A list without any is an empty text.
    pub(super) fn new<T: AsRef<str>>(
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
    pub(super) fn bare(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            words: Vec::new(),
        }
    }

    /// The call as lines of a script. Only their beginnings are indented: a quoted text may have
    /// lines of its own.
    pub(super) fn render(&self, indent: &str) -> String {
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
