// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which deliberate defects of a kernel the originals notice, and which the scenarios. Pure.

use super::compare::{Pair, Word};

/// What was found out about a kernel with a defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The kernel's name.
    pub kernel: String,
    /// What is broken.
    pub summary: String,
    /// The originals beside their scenarios.
    pub pairs: Vec<Pair>,
    /// The scenarios of the lab alone that are not as expected.
    pub others: Vec<String>,
}

impl Mutation {
    /// The originals that notice it.
    pub fn by_originals(&self) -> Vec<&str> {
        let not_ok = self
            .pairs
            .iter()
            .filter(|pair| pair.original == Word::NotOk);
        not_ok.map(|pair| pair.case.as_str()).collect()
    }

    /// The scenarios that notice it: those of originals first.
    pub fn by_scenarios(&self) -> Vec<&str> {
        let not_ok = self.pairs.iter().filter(|pair| pair.lab == Word::NotOk);
        let names = not_ok.filter_map(|pair| pair.scenario.as_deref());
        names
            .chain(self.others.iter().map(String::as_str))
            .collect()
    }

    /// The originals that notice it although their scenarios do not.
    pub fn missed(&self) -> Vec<&str> {
        let missed = |pair: &&Pair| pair.original == Word::NotOk && pair.lab != Word::NotOk;
        let pairs = self.pairs.iter().filter(missed);
        pairs.map(|pair| pair.case.as_str()).collect()
    }

    /// Whether the lab notices it, and wherever an original does.
    pub fn is_noticed(&self) -> bool {
        !self.by_scenarios().is_empty() && self.missed().is_empty()
    }
}

/// The page of the documentation, in Markdown.
pub fn page(mutations: &[Mutation], command: &str) -> String {
    let mut text = format!(
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
         # What a broken kernel shows\n\n\
         Each kernel below is `mainline` with one deliberate defect in `kernel/livepatch/`. The \
         kernel's own\nselftests were played on it, unmodified, and so were the scenarios. This \
         page is written by\n\n    {command}\n\n\
         | defect | originals that notice | scenarios that notice |\n|---|---|---|\n"
    );
    for mutation in mutations {
        let (originals, scenarios) = (mutation.by_originals(), mutation.by_scenarios());
        text += &format!(
            "| `{}` | {} | {} |\n",
            mutation.kernel,
            count(&originals),
            count(&scenarios)
        );
    }
    for mutation in mutations {
        text += &format!("\n## {}\n\n{}\n", mutation.kernel, mutation.summary);
        text += &list("Originals that notice it", &mutation.by_originals());
        text += &list("Scenarios that notice it", &mutation.by_scenarios());
        let unreached = mutation.pairs.iter();
        let unreached = unreached
            .filter(|pair| pair.original == Word::Nothing)
            .count();
        if unreached > 0 {
            text += &format!(
                "\nA failing case ends its script: {unreached} originals were not reached. Their \
                 scenarios ran.\n"
            );
        }
    }
    text
}

fn count(names: &[&str]) -> String {
    match names.len() {
        0 => "**none**".to_owned(),
        count => count.to_string(),
    }
}

fn list(title: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return format!("\n{title}: none.\n");
    }
    let lines: String = names.iter().map(|name| format!("- {name}\n")).collect();
    format!("\n{title}:\n\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(original: Word, lab: Word, others: &[&str]) -> Mutation {
        Mutation {
            kernel: "mutant-stack-order".into(),
            summary: "stack_order is off by one.".into(),
            pairs: vec![Pair {
                case: "test-sysfs.sh: sysfs test stack_order value".into(),
                scenario: Some("upstream-sysfs-stack-order".into()),
                original,
                lab,
            }],
            others: others.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn what_an_original_notices_its_scenario_must_notice() {
        assert!(mutation(Word::NotOk, Word::NotOk, &[]).is_noticed());
        assert!(mutation(Word::Ok, Word::Ok, &["sympos"]).is_noticed());
        assert!(!mutation(Word::NotOk, Word::Ok, &["sympos"]).is_noticed());
        assert!(!mutation(Word::Ok, Word::Ok, &[]).is_noticed());
    }

    #[test]
    fn the_page_says_who_noticed() {
        let mutations = [
            mutation(Word::NotOk, Word::NotOk, &[]),
            mutation(Word::Nothing, Word::Ok, &["sympos"]),
        ];
        insta::assert_snapshot!(page(
            &mutations,
            "lab selftests --mutations docs/mutations.md"
        ));
    }
}
