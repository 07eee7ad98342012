// SPDX-License-Identifier: MIT OR Apache-2.0
//! From lines of generated C back to lines of the scenario, when they are shown.
//!
//! Compilers and kernels speak of `fix.c:41`. A `#line` in the C would make them speak of the
//! scenario, and a new module of each edit above the code; and scenarios could not share modules.
//! So the C stays as it is, and what is said of it is translated.

use super::draft::Place;
use super::generate::modules;
use crate::files::shown;
use crate::scenario::Scenario;

/// Where the code of a scenario is in the C that is generated from it.
#[derive(Debug)]
pub struct Places {
    /// The scenario's file, as it is shown.
    scenario: String,
    places: Vec<Place>,
}

impl Places {
    /// Of a scenario's livepatches.
    pub fn of(scenario: &Scenario) -> Self {
        let file = scenario.folder.join(format!("{}.yaml", scenario.name));
        let modules = modules(scenario).into_iter();
        Self {
            scenario: shown(&file),
            places: modules.flat_map(|module| module.places).collect(),
        }
    }

    /// What was said of generated C, with the lines of the scenario where it is about the author's
    /// own code: `fix.c:41:9: error: …` becomes `scenarios/fix.yaml:17: error: …`. The column goes,
    /// because the lab indents the code.
    pub fn translate(&self, text: &str) -> String {
        let mut files: Vec<_> = self.places.iter().map(|place| &*place.file).collect();
        files.dedup();
        let one = |text: String, file: &str| self.translate_file(&text, file);
        files.into_iter().fold(text.to_owned(), one)
    }

    fn translate_file(&self, text: &str, file: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut kept = 0;
        for (start, mark) in text.match_indices(&format!("{file}:")) {
            let of_another = text[..start].ends_with(is_path);
            let (number, after) = number(&text[start + mark.len()..]);
            let line = number.and_then(|line| self.line(file, line));
            let Some(line) = line.filter(|_| !of_another) else {
                continue;
            };
            out += &text[kept..start];
            out += &format!("{}:{line}", self.scenario);
            kept = text.len() - without_column(after).len();
        }
        out + &text[kept..]
    }

    /// The scenario's line that became this line of a file.
    fn line(&self, file: &str, line: usize) -> Option<usize> {
        self.places.iter().find_map(|place| {
            let index = line.checked_sub(place.line)?;
            let lines = place.code.text.trim_end().lines().count();
            (place.file == file && index < lines).then(|| place.code.line(index))
        })
    }
}

/// Whether a file's name goes on to the left with it.
fn is_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./".contains(c)
}

/// The number with which a text begins, and the rest.
fn number(text: &str) -> (Option<usize>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    (number.parse().ok(), rest)
}

/// `:9: error` without the `:9`.
fn without_column(after: &str) -> &str {
    match after.strip_prefix(':').map(number) {
        Some((Some(_), rest)) => rest,
        _ => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::generate::sources;
    use crate::yaml::Source;

    const YAML: &str = r#"version: 1
summary: x
targets: { shop: { functions: { price: 10 } } }
livepatches:
  fix:
    preamble: |
      static int seen;
      static int *null;
    callbacks:
      shop: { pre_patch: { body: "null[0] = 1;" } }
    patches:
      shop:
        price:
          signature: int price(void)
          body: |
            seen = 1;

            WARN_ON(seen);
            return 12;
      vmlinux:
        show: { signature: int show(void), include: [linux/fs.h], body: return nothing; }
  fix-2: { patches: { shop: { price: 11 } } }
steps: [load: shop]
"#;

    fn scenario() -> Scenario {
        let source = Source::new("scenarios/x.yaml", YAML);
        let scenario = crate::scenario::parse("x", &source);
        scenario
            .map_err(|errors| errors.render(&source, false))
            .unwrap()
    }

    /// Every line of the scenario that is C is found in what is generated, and leads back.
    #[test]
    fn the_lines_of_the_authors_code_lead_back_to_it() {
        let scenario = scenario();
        let places = Places::of(&scenario);
        let files = sources(&scenario);
        let file = files.iter().find(|file| file.name == "fix.c").unwrap();
        let mut found = Vec::new();
        for (index, text) in file.text.lines().enumerate() {
            let said = places.translate(&format!("fix.c:{}:9: error: x", index + 1));
            if let Some(rest) = said.strip_prefix("scenarios/x.yaml:") {
                let line = rest.strip_suffix(": error: x").unwrap();
                found.push((line.parse::<usize>().unwrap(), text.trim().to_owned()));
            }
        }
        let expected = [
            (21, "#include <linux/fs.h>"),
            (7, "static int seen;"),
            (8, "static int *null;"),
            (14, "static int lab_new_0_price(void)"),
            (16, "seen = 1;"),
            (17, ""),
            (18, "WARN_ON(seen);"),
            (19, "return 12;"),
            (21, "static int lab_new_1_show(void)"),
            (21, "return nothing;"),
            (10, "null[0] = 1;"),
        ];
        let expected = expected.map(|(line, text)| (line, text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn only_what_is_about_the_authors_code_is_translated() {
        let places = Places::of(&scenario());
        let line = |text: &str| {
            let files = sources(&scenario());
            let file = files.iter().find(|file| file.name == "fix.c").unwrap();
            file.text
                .lines()
                .position(|line| line.contains(text))
                .unwrap()
                + 1
        };
        let (warn, init) = (line("WARN_ON(seen)"), line("klp_enable_patch"));
        let said = format!(
            "WARNING: fix.c:{warn} at lab_new_0_price+0x1/0x2 [fix], CPU#0: x/71\n\
             kernel BUG at fix.c:{warn}!\nfix.c:{init}:9: error: x\nnet/fix.c:{warn}: y\n\
             a-fix.c:{warn}: y\nfix_2.c:{warn}: z\nfix.c: In function\nfix.c:"
        );
        let shown = format!(
            "WARNING: scenarios/x.yaml:18 at lab_new_0_price+0x1/0x2 [fix], CPU#0: x/71\n\
             kernel BUG at scenarios/x.yaml:18!\nfix.c:{init}:9: error: x\nnet/fix.c:{warn}: y\n\
             a-fix.c:{warn}: y\nfix_2.c:{warn}: z\nfix.c: In function\nfix.c:"
        );
        assert_eq!(places.translate(&said), shown);
    }

    /// Scenarios with the same module share it, wherever the module stands in them.
    #[test]
    fn the_c_does_not_know_where_it_comes_from() {
        let below = YAML.replace("summary: x\n", "summary: x\n# a comment\n\n");
        let source = Source::new("elsewhere/y.yaml", below);
        let other = crate::scenario::parse("y", &source).unwrap();
        assert_eq!(sources(&scenario()), sources(&other));
        assert_ne!(Places::of(&scenario()).places, Places::of(&other).places);
    }
}
