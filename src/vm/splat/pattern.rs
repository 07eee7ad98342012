// SPDX-License-Identifier: MIT OR Apache-2.0
//! What texts of kernels are compared with. Pure.

/// Whether a text begins as a pattern says, in which `*` stands for anything: `BUG * (Tainted: *): `.
pub fn begins(text: &str, pattern: &str) -> bool {
    // Most lines are told apart from most patterns by this.
    if let (Some(first), Some(wanted)) = (text.bytes().next(), pattern.bytes().next())
        && first != wanted
        && wanted != b'*'
    {
        return false;
    }
    rest_after(text, pattern).is_some()
}

/// Whether all of a text is as a pattern says.
pub fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.rsplit_once('*') {
        None => text == pattern,
        Some((head, tail)) => rest_after(text, head).is_some_and(|rest| rest.ends_with(tail)),
    }
}

/// The text from where it begins to be as a pattern says.
pub fn find<'a>(text: &'a str, pattern: &str) -> Option<&'a str> {
    let (first, _) = pattern.split_once('*').unwrap_or((pattern, ""));
    let from = &text[text.find(first)?..];
    begins(from, pattern).then_some(from)
}

/// What follows the pattern. Each part is looked for once, from where the last one ended.
fn rest_after<'a>(text: &'a str, pattern: &str) -> Option<&'a str> {
    let mut parts = pattern.split('*');
    let mut rest = text.strip_prefix(parts.next()?)?;
    for part in parts {
        rest = &rest[rest.find(part)? + part.len()..];
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything() {
        for (text, pattern, is) in [
            (
                "INFO: task x:7 blocked for more than 9 s",
                "INFO: task * blocked* for ",
                true,
            ),
            ("INFO: task x:7 is fine", "INFO: task * blocked", false),
            ("an INFO: task", "INFO: task", false),
            ("abc", "*c", true),
            ("", "", true),
            ("ba", "a*b", false),
        ] {
            assert_eq!(begins(text, pattern), is, "{text} {pattern}");
        }
        assert!(is_like("_raw_spin_lock_irq", "_raw_spin_*"));
        assert!(is_like("kasan_report", "*kasan*"));
        assert!(is_like("kfree", "kfree") && !is_like("kfree_skb", "kfree"));
        assert!(!is_like("do_idle_x", "do_*_idle"));
        assert_eq!(
            find("x: BUG: KASAN: a in b", "BUG: KASAN: * in "),
            Some("BUG: KASAN: a in b")
        );
        assert_eq!(find("x: BUG: KASAN: a", "BUG: KASAN: * in "), None);
    }
}
