// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text from guests and from other people's files made fit to be shown: it must not steer the
//! terminal of whoever reads it, nor look like what it is not. Pure.

use std::fmt::Write;

/// `text` with everything visible: what controls a terminal, ends a line for some readers, turns
/// the direction of writing, has no width or is no character in XML is written as `\u{1b}`. Newlines and tabs
/// stay.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        if is_hidden(c) && c != '\n' && c != '\t' {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character does what nobody sees.
pub fn is_hidden(c: char) -> bool {
    let separates_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let turns_direction = matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let has_no_width = matches!(c,
        '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    let is_no_xml = matches!(c, '\u{fffe}' | '\u{ffff}');
    c.is_control() || separates_lines || turns_direction || has_no_width || is_no_xml
}

/// Bytes that come in pieces, made [`visible`]: a character or the end of a line may come in two.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The beginning of a character, or a carriage return.
    rest: Vec<u8>,
}

impl Pieces {
    /// Takes a piece; gives what is complete by now.
    pub fn take(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let last = self.rest.utf8_chunks().last();
        let cut = last.map_or(&[][..], |chunk| chunk.invalid());
        let mut whole = self.rest.len();
        if is_cut(cut) {
            whole -= cut.len();
        }
        if whole == self.rest.len() && self.rest.last() == Some(&b'\r') {
            whole -= 1;
        }
        let rest = self.rest.split_off(whole);
        let whole = std::mem::replace(&mut self.rest, rest);
        visible(&String::from_utf8_lossy(&whole))
    }
}

/// Whether these bytes are the beginning of a character.
fn is_cut(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_visible_as_the_whole() {
        let whole = "a\r\nb\u{1b}[2Jä€\rc".as_bytes();
        let whole = [&b"\xff"[..], whole, b"\xe2\x82x"].concat();
        let expected = visible(&String::from_utf8_lossy(&whole));
        for size in 1..whole.len() {
            let mut pieces = Pieces::default();
            let said: String = whole.chunks(size).map(|piece| pieces.take(piece)).collect();
            assert_eq!(said, expected, "{size}");
        }
    }

    #[test]
    fn what_is_hidden_becomes_visible() {
        assert_eq!(
            visible("\u{1b}[31mred\r\n\ta\u{85}b\u{2028}c\u{202e}d\u{ffff}\0"),
            "\\u{1b}[31mred\n\ta\\u{85}b\\u{2028}c\\u{202e}d\\u{ffff}\\u{0}"
        );
        assert_eq!(
            visible("pa\u{200b}ss\u{61c}\u{feff}"),
            "pa\\u{200b}ss\\u{61c}\\u{feff}"
        );
    }
}
