// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of a verdict: what kernels say of generated C leads to the scenario's lines.

use crate::module::places::Places;
use crate::scenario::Scenario;
use crate::verdict::Verdict;

/// The verdict, with lines of the scenario for those of its generated C. The complaint by which runs
/// are compared stays as the kernel said it: another scenario with the same module has other lines.
pub(super) fn with_lines_of(scenario: &Scenario, mut verdict: Verdict) -> Verdict {
    let texts = verdict.evidence.iter_mut().map(|piece| &mut piece.text);
    let mut all = verdict.reasons.iter_mut().chain(texts).peekable();
    if all.peek().is_some() {
        let places = Places::of(scenario);
        all.for_each(|text| *text = places.translate(text));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Blame;
    use crate::scenario;
    use crate::verdict::{Complaint, Outcome, SplatKind};
    use crate::yaml::Source;

    #[test]
    fn a_warning_leads_to_the_line_of_the_scenario() {
        let yaml = "version: 1\nsummary: x\nlivepatches:\n  fix:\n    preamble: int x;\n    \
                    patches: { vmlinux: { f: { signature: int f(void), body: return 1; } } }\n\
                    steps: [load: fix]\n";
        let source = Source::new("scenarios/x.yaml", yaml);
        let scenario = scenario::parse("x", &source).unwrap();
        let title = "WARNING: fix.c:9 at lab_new_0_f+0x1/0x2 [fix], CPU#0: x/71";
        let mut verdict = Verdict::against(Outcome::Splat, Blame::Kernel, title);
        verdict.splat = Some(Complaint {
            kind: SplatKind::Warning,
            title: title.into(),
            code: None,
        });
        let verdict = with_lines_of(&scenario, verdict.with("said", &format!("a\n{title}")));
        let shown = title.replace("fix.c:9", "scenarios/x.yaml:5");
        assert_eq!(verdict.reasons.join("\n"), shown);
        assert_eq!(verdict.evidence[0].text, format!("a\n{shown}"));
        assert_eq!(verdict.splat.unwrap().title, title);
    }
}
