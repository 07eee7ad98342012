// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report's text → the commands in it, as words. Pure; nothing is ever run or expanded.
//!
//! Only variables that the text itself sets to plain text are put in. A command with anything else
//! that a shell would expand has no words.

use std::collections::BTreeMap;

/// Lines that a quoted text may go on for, as in `check_result "…"`.
const QUOTED_MAX: usize = 400;

/// A line of the report, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The number of its first line, from 1.
    pub(super) number: usize,
    /// How many lines it has.
    pub(super) count: usize,
    /// What it is.
    pub(super) kind: Kind,
    /// As it is written, without the prompt.
    pub(super) text: String,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Blank,
    /// For people.
    Comment,
    /// A line of a kernel's log: `[   12.345678] livepatch: …`.
    Log,
    /// Commands, one after the other.
    Commands(Vec<Command>),
    /// What the lab cannot take apart, and why.
    Opaque(&'static str),
}

/// A command: its words, and the file that its output goes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    pub(super) output: Option<String>,
}

impl Command {
    /// The command's name.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What follows it.
    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// The report's lines.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let all: Vec<&str> = text.lines().collect();
    let mut variables = BTreeMap::from([
        ("SYSFS_KERNEL_DIR".to_owned(), "/sys/kernel".to_owned()),
        (
            "SYSFS_KLP_DIR".to_owned(),
            "/sys/kernel/livepatch".to_owned(),
        ),
        ("SYSFS_DEBUG_DIR".to_owned(), "/sys/kernel/debug".to_owned()),
        (
            "SYSFS_KPROBES_DIR".to_owned(),
            "/sys/kernel/debug/kprobes".to_owned(),
        ),
        (
            "SYSFS_TRACING_DIR".to_owned(),
            "/sys/kernel/tracing".to_owned(),
        ),
    ]);
    let mut lines = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let (text, count) = joined(&all[at..]);
        let text = without_prompt(text.trim()).trim().to_owned();
        let kind = kind(&text, &mut variables);
        lines.push(Line {
            number: at + 1,
            count,
            kind,
            text,
        });
        at += count;
    }
    lines
}

/// A line with those that continue it, and how many these are together.
fn joined(lines: &[&str]) -> (String, usize) {
    let mut text = lines[0].to_owned();
    let mut count = 1;
    while text.ends_with('\\') && count < lines.len() && count < QUOTED_MAX {
        text.pop();
        text += lines[count];
        count += 1;
    }
    // In prose, an apostrophe opens nothing.
    if without_prompt(text.trim()).starts_with("check_result") {
        let (mut longer, mut more) = (text.clone(), count);
        while !is_closed(&longer) && more < lines.len() && more < QUOTED_MAX {
            longer.push('\n');
            longer += lines[more];
            more += 1;
        }
        if is_closed(&longer) {
            return (longer, more);
        }
    }
    (text, count)
}

/// Whether all double quotes are closed.
fn is_closed(text: &str) -> bool {
    let quotes = text.replace("\\\"", "");
    quotes.matches('"').count().is_multiple_of(2)
}

/// A line without the prompt of the shell that it was typed into. One of root's prompts, `# `, also
/// begins a comment: that is decided by what follows.
fn without_prompt(line: &str) -> &str {
    for prompt in ["$ ", "% ", "> "] {
        if let Some(rest) = line.strip_prefix(prompt) {
            return rest;
        }
    }
    // `root@host:~# `, `[root@host ~]# `, `user@host:/tmp$ `.
    for end in ["# ", "$ "] {
        if let Some((prompt, rest)) = line.split_once(end)
            && prompt.contains('@')
            && !prompt.contains(['=', '"', '\'', ';', '|'])
            && prompt.len() <= 80
        {
            return rest;
        }
    }
    line
}

fn kind(text: &str, variables: &mut BTreeMap<String, String>) -> Kind {
    if text.is_empty() {
        return Kind::Blank;
    }
    if is_log(text) {
        return Kind::Log;
    }
    if let Some(rest) = text.strip_prefix('#') {
        // Only what begins like a command after root's prompt is one.
        let begins = rest.split_whitespace().next().unwrap_or_default();
        let is_command = rest.starts_with(' ') && is_root_command(begins, rest);
        if !is_command {
            return Kind::Comment;
        }
        return kind(rest.trim(), variables);
    }
    if let Some(command) = compared(text, variables) {
        return Kind::Commands(vec![command]);
    }
    match commands(text, variables) {
        Ok(commands) => Kind::Commands(commands),
        Err(why) => Kind::Opaque(why),
    }
}

/// Whether what follows `# ` is a command that root types, and no comment.
fn is_root_command(begins: &str, text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_name = |word: &&str| word.contains(['.', '/', '_', '-', '=']);
    match begins {
        "sudo" => words.get(1).is_some_and(|next| {
            let rest = text.trim_start().trim_start_matches("sudo");
            is_root_command(next, rest)
        }),
        "insmod" | "modprobe" | "rmmod" => {
            words.len() == 2 || (words.len() > 2 && words[1..].iter().all(is_name))
        }
        "echo" | "printf" => text.contains(['>', '|']),
        "cat" | "grep" => text.contains(" /"),
        "sysctl" => text.contains('='),
        "kpatch" => matches!(words.get(1), Some(&("load" | "unload"))),
        "dmesg" | "lsmod" | "uname" => words.len() <= 2,
        _ => false,
    }
}

/// `if [[ "$(cat FILE)" != "TEXT" ]]`, which the selftests write, as the words of a comparison.
fn compared(text: &str, variables: &BTreeMap<String, String>) -> Option<Command> {
    let rest = text
        .strip_prefix("if ")
        .unwrap_or(text)
        .strip_prefix("[[ \"$(cat ")?;
    let (path, rest) = rest.split_once(")\" ")?;
    let (operator, rest) = rest.split_once(" \"")?;
    let inside = &rest[..end_of_quoted(rest)?];
    let path = expanded(path, variables)?;
    let words = ["[[", "cat", &path, operator]
        .map(str::to_owned)
        .into_iter();
    Some(Command {
        words: words.chain([expanded(inside, variables)?]).collect(),
        output: None,
    })
}

/// Whether a line is of a kernel's log: a time in brackets, perhaps with a thread or CPU, after
/// what syslog puts before it.
fn is_log(text: &str) -> bool {
    let Some(start) = text.find('[') else {
        return false;
    };
    let before = &text[..start];
    let is_syslog = before.is_empty() || before.ends_with("kernel: ") || before.starts_with('<');
    let inside = text[start + 1..]
        .split(']')
        .next()
        .unwrap_or_default()
        .trim();
    let time = inside.split_once('.');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_syslog && time.is_some_and(|(seconds, rest)| digits(seconds) && digits(rest))
}

/// The commands of a line. An `Err` says why it has none.
fn commands(
    text: &str,
    variables: &mut BTreeMap<String, String>,
) -> Result<Vec<Command>, &'static str> {
    let tokens = tokens(text, variables)?;
    let mut commands = Vec::new();
    let mut pipeline = vec![Command::default()];
    let mut wants_file = false;
    let mut skips = false;
    for token in tokens {
        let command = pipeline.last_mut().ok_or("it is no command")?;
        match token {
            Token::Word(word) if wants_file => {
                wants_file = false;
                // Where errors go is of no matter.
                command.output = Some(word);
            }
            Token::Word(word) => command.words.push(word),
            Token::Operator(">" | ">>") => wants_file = true,
            Token::Operator("|") => pipeline.push(Command::default()),
            Token::Operator(operator) => {
                let done = std::mem::replace(&mut pipeline, vec![Command::default()]);
                if !skips {
                    commands.push(piped(done)?);
                }
                // What comes after a failure is not what usually happens.
                skips = operator == "||";
            }
        }
    }
    if wants_file {
        return Err("a file is missing after `>`");
    }
    if !skips {
        commands.push(piped(pipeline)?);
    }
    commands.retain(|command| !command.words.is_empty());
    for command in &mut commands {
        assign(command, variables);
        without_sudo(command);
    }
    commands.retain(|command| !command.words.is_empty());
    Ok(commands)
}

/// `echo 0 | tee FILE` writes to the file; in other pipes, the first command is what counts.
fn piped(mut pipeline: Vec<Command>) -> Result<Command, &'static str> {
    let last = pipeline.len() - 1;
    if last > 0 {
        without_sudo(&mut pipeline[last]);
        let file = pipeline[last]
            .words
            .iter()
            .skip(1)
            .find(|w| !w.starts_with('-'));
        if pipeline[last].name() == "tee"
            && let Some(file) = file.cloned()
        {
            pipeline[0].output = Some(file);
        } else if pipeline[0].name() == "echo" || pipeline[0].name() == "printf" {
            return Err("what is written goes through a pipe");
        }
    }
    Ok(pipeline.swap_remove(0))
}

/// Notes `NAME=value` words before a command, and takes them off it.
fn assign(command: &mut Command, variables: &mut BTreeMap<String, String>) {
    while let Some(word) = command.words.first() {
        let word = ["local", "export", "readonly", "declare"].contains(&word.as_str());
        let at = usize::from(word && command.words.len() > 1);
        let Some((name, value)) = command.words[at].split_once('=') else {
            return;
        };
        let is_name = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            return;
        }
        variables.insert(name.to_owned(), value.to_owned());
        command.words.drain(..=at);
    }
}

/// Takes off who runs a command.
fn without_sudo(command: &mut Command) {
    while ["sudo", "doas", "time", "command", "exec"].contains(&command.name()) {
        command.words.remove(0);
        while command.name().starts_with('-') {
            command.words.remove(0);
        }
    }
    // `/sbin/insmod`
    if let Some(name) = command.words.first_mut()
        && ["/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/"]
            .iter()
            .any(|p| name.starts_with(p))
        && let Some(at) = name.rfind('/')
    {
        *name = name.split_off(at + 1);
    }
}

enum Token {
    Word(String),
    Operator(&'static str),
}

/// Takes a line apart as a shell would.
fn tokens(text: &str, variables: &BTreeMap<String, String>) -> Result<Vec<Token>, &'static str> {
    const EXPANDS: &str = "it contains shell expansions";
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let operator = ["&&", "||", "2>&1", "&>", "2>>", "2>", ">>", ">", "|", ";"];
        let operator = operator.iter().find(|o| rest.starts_with(**o));
        let is_redirect = |o: &str| o.starts_with('2');
        // `2>` only where a word begins: `echo 12>x` writes 12.
        let operator = operator.filter(|o| !is_redirect(o) || word.is_none());
        if let Some(&operator) = operator {
            tokens.extend(word.take().map(Token::Word));
            rest = &rest[operator.len()..];
            match operator {
                "2>&1" => {}
                "2>" | "2>>" | "&>" => {
                    // Errors go to a file that nobody looks at.
                    let file = rest.trim_start();
                    let end = file.find([' ', ';', '|', '&']).unwrap_or(file.len());
                    rest = &file[end..];
                }
                _ => tokens.push(Token::Operator(operator)),
            }
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            ' ' | '\t' => tokens.extend(word.take().map(Token::Word)),
            '#' if word.is_none() => break,
            '\'' => {
                let end = rest.find('\'').ok_or("a quote is not closed")?;
                word.get_or_insert_default().push_str(&rest[..end]);
                rest = &rest[end + 1..];
            }
            '"' => {
                let end = end_of_quoted(rest).ok_or("a quote is not closed")?;
                let inside = expanded(&rest[..end], variables).ok_or(EXPANDS)?;
                word.get_or_insert_default().push_str(&inside);
                rest = &rest[end + 1..];
            }
            '$' => {
                let (value, length) = variable(rest, variables).ok_or(EXPANDS)?;
                word.get_or_insert_default().push_str(&value);
                rest = &rest[length..];
            }
            '\\' => {
                let next = rest.chars().next().ok_or("it ends in a backslash")?;
                word.get_or_insert_default().push(next);
                rest = &rest[next.len_utf8()..];
            }
            '&' => return Err("it goes on in the background"),
            '`' => return Err(EXPANDS),
            '*' | '?' => return Err("it means several files"),
            '<' => return Err("it reads from a file"),
            '(' | ')' => return Err("it is no plain command"),
            c => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.take().map(Token::Word));
    Ok(tokens)
}

/// Where a text in double quotes ends.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// A text in double quotes with its variables.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '`' => return None,
            '$' => {
                let (value, length) = variable(rest, variables)?;
                out += &value;
                rest = &rest[length..];
            }
            '\\' => {
                let next = rest.chars().next()?;
                if !"\"\\$`\n".contains(next) {
                    out.push('\\');
                }
                if next != '\n' {
                    out.push(next);
                }
                rest = &rest[next.len_utf8()..];
            }
            c => out.push(c),
        }
    }
    Some(out)
}

/// The value of the variable that follows a `$`, and how long its name is there.
fn variable(text: &str, variables: &BTreeMap<String, String>) -> Option<(String, usize)> {
    let (name, length) = match text.strip_prefix('{') {
        Some(inner) => {
            let end = inner.find('}')?;
            (&inner[..end], end + 2)
        }
        None => {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
            (&text[..end], end)
        }
    };
    Some((variables.get(name)?.clone(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line as its words, with `>` before a file; or what it is.
    fn seen(text: &str) -> Vec<String> {
        let line = |line: Line| match line.kind {
            Kind::Commands(commands) => {
                let command = |command: &Command| {
                    let output = command.output.iter().map(|file| format!(">{file}"));
                    let words = command.words.iter().cloned().chain(output);
                    words.collect::<Vec<_>>().join("·")
                };
                commands.iter().map(command).collect::<Vec<_>>().join(" ; ")
            }
            Kind::Opaque(why) => why.to_owned(),
            other => format!("{other:?}"),
        };
        lines(text).into_iter().map(line).collect()
    }

    #[test]
    fn prompts_and_sudo_are_taken_off() {
        let text = "$ sudo insmod ./a.ko x=1\n# insmod b.ko\nroot@vm:~# /sbin/rmmod b\n\
                    [root@vm ~]# sudo -n modprobe c\n# insmod is what loads it";
        assert_eq!(
            seen(text),
            [
                "insmod·./a.ko·x=1",
                "insmod·b.ko",
                "rmmod·b",
                "modprobe·c",
                "Comment"
            ]
        );
    }

    #[test]
    fn writes_are_the_same_however_they_are_typed() {
        let write = "echo·0·>/sys/kernel/livepatch/a/enabled";
        let text = "echo 0 > /sys/kernel/livepatch/a/enabled\n\
                    echo 0 | sudo tee /sys/kernel/livepatch/a/enabled >/dev/null\n\
                    echo \"0\" >> '/sys/kernel/livepatch/a/enabled' 2>&1 || exit 1\n\
                    P=/sys/kernel/livepatch; M=a\necho 0 > $P/${M}/enabled";
        assert_eq!(seen(text), [write, write, write, "", write]);
    }

    #[test]
    fn nothing_is_expanded_that_the_text_does_not_say() {
        let text = "insmod $(ls *.ko)\ninsmod \"$MOD\"\ncat /sys/*/x\n./busy &\ncat <<EOF\nrm `x`\n\
                    I don't know";
        let expands = "it contains shell expansions";
        assert_eq!(
            seen(text),
            [
                expands,
                expands,
                "it means several files",
                "it goes on in the background",
                "it reads from a file",
                expands,
                "a quote is not closed"
            ]
        );
    }

    #[test]
    fn what_belongs_together_is_one_line() {
        let text =
            "insmod a.ko \\\n  x=1\ncheck_result \"% insmod a\nlivepatch: \\\"a\\\"\"\nrmmod a";
        let lines = lines(text);
        let places: Vec<_> = lines.iter().map(|l| (l.number, l.count)).collect();
        assert_eq!(places, [(1, 2), (3, 2), (5, 1)]);
        assert_eq!(seen(text)[1], "check_result·% insmod a\nlivepatch: \"a\"");
    }

    #[test]
    fn a_kernels_log_is_known_by_its_times() {
        let text = "[   12.345678] livepatch: enabling\n[    1.0][  T12] x\n\
                    Nov 25 16:00:00 vm kernel: [ 5.123] y\n[root@vm ~]# rmmod a\n[1] 1234";
        assert_eq!(seen(text)[..4], ["Log", "Log", "Log", "rmmod·a"]);
    }
}
