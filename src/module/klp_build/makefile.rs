// SPDX-License-Identifier: MIT OR Apache-2.0
//! On which options of the configuration a file of the kernel's source depends, as far as the
//! Makefiles of its folders say so in the usual words. Pure.
//!
//! `obj-$(CONFIG_X) += file.o`, `obj-y += folder/`, the parts of composite objects
//! (`foo-$(CONFIG_X) += file.o`), and `ifdef CONFIG_X` around them. What make computes otherwise is
//! not found, and then nothing is said.

use std::path::Path;

/// Parts of composite objects that are parts of others.
const NESTED_MAX: usize = 4;

/// Which options must be set: one of the alternatives, all options of it.
type Needs = Vec<Vec<String>>;

/// The options that are missing for a source file to be compiled, as `CONFIG_A and CONFIG_B or
/// CONFIG_C`; `None` if nothing is known of them. `makefile` gives the text of a folder's `Kbuild` or
/// `Makefile`, and `is_set` says whether an option is.
pub(super) fn missing_options(
    source: &Path,
    makefile: impl Fn(&Path) -> Option<String>,
    is_set: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut missing: Vec<String> = Vec::new();
    let mut what = source.with_extension("o");
    let mut is_folder = false;
    while let Some((folder, needs)) = next_up(&what, is_folder, &makefile) {
        let lacks = |options: &Vec<String>| {
            let lacks = options.iter().filter(|option| !is_set(option));
            lacks.cloned().collect::<Vec<_>>()
        };
        let lacking: Vec<_> = needs.iter().map(lacks).collect();
        if lacking.iter().all(|lacks| !lacks.is_empty()) {
            let mut alternatives: Vec<_> = lacking.iter().map(|all| all.join(" and ")).collect();
            alternatives.dedup();
            missing.push(alternatives.join(" or "));
        }
        if folder == Path::new("") {
            break;
        }
        (what, is_folder) = (folder.to_path_buf(), true);
    }
    // The folder's option first.
    missing.reverse();
    missing.dedup();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

/// The nearest folder above `what`, an object or a folder, whose Makefile names it, and what that
/// needs.
fn next_up<'a>(
    what: &'a Path,
    is_folder: bool,
    makefile: &impl Fn(&Path) -> Option<String>,
) -> Option<(&'a Path, Needs)> {
    what.ancestors().skip(1).find_map(|folder| {
        let name = what.strip_prefix(folder).ok()?.to_str()?;
        let name = if is_folder {
            format!("{name}/")
        } else {
            name.to_owned()
        };
        let needs = needs_of(&rules(&makefile(folder)?), &name, NESTED_MAX);
        (!needs.is_empty()).then_some((folder, needs))
    })
}

/// What an object or a folder needs to be built.
fn needs_of(rules: &[Rule], name: &str, nested: usize) -> Needs {
    let naming = rules.iter().filter(|rule| rule.names(name));
    let of_rule = |rule: &Rule| {
        // Of the parts of an object, what the object itself needs.
        let of_whole = match is_list(&rule.stem) || nested == 0 {
            true => Needs::new(),
            false => needs_of(rules, &format!("{}.o", rule.stem), nested - 1),
        };
        if of_whole.is_empty() {
            return vec![rule.needs.clone()];
        }
        let both = |of_whole: Vec<String>| [of_whole, rule.needs.clone()].concat();
        of_whole.into_iter().map(both).collect()
    };
    naming.flat_map(of_rule).collect()
}

/// The lists of Kbuild; others are the parts of an object.
fn is_list(stem: &str) -> bool {
    ["obj", "lib", "core", "drivers", "libs", "init", "subdir"].contains(&stem)
}

/// `STEM-$(CONFIG_X) += WORDS`.
struct Rule {
    stem: String,
    needs: Vec<String>,
    words: Vec<String>,
}

impl Rule {
    fn names(&self, name: &str) -> bool {
        self.words.iter().any(|word| word == name)
    }
}

fn rules(makefile: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    // The options of the conditions around a line; none of what is not understood.
    let mut around: Vec<Option<String>> = Vec::new();
    for line in makefile.replace("\\\n", " ").lines() {
        let line = line.split('#').next().unwrap_or_default();
        let (first, rest) = line
            .trim()
            .split_once([' ', '\t', '('])
            .unwrap_or((line.trim(), ""));
        match first {
            "ifdef" => around.push(options(rest).next()),
            "ifeq" | "ifneq" => around.push(condition(first, rest)),
            "ifndef" => around.push(None),
            "else" => {
                around.pop();
                around.push(None);
            }
            "endif" => drop(around.pop()),
            _ => rules.extend(rule(line, &around)),
        }
    }
    rules
}

/// `ifeq ($(CONFIG_X),y)`, `ifneq ($(CONFIG_X),)`: the option that must be set.
fn condition(word: &str, rest: &str) -> Option<String> {
    let value = rest.rsplit_once(',')?.1.trim().trim_end_matches(')');
    let is_positive = match word {
        "ifeq" => ["y", "m"].contains(&value),
        _ => value.is_empty(),
    };
    options(rest).next().filter(|_| is_positive)
}

fn rule(line: &str, around: &[Option<String>]) -> Option<Rule> {
    let (left, value) = line.split_once('=')?;
    let left = left.trim_end_matches(['+', ':', '?']).trim();
    let (stem, condition) = left.split_once("-$(").or_else(|| left.rsplit_once('-'))?;
    let needs: Vec<_> = options(condition).collect();
    let is_known = !needs.is_empty() || ["y", "m", "objs"].contains(&condition);
    if !is_known || stem.contains([' ', '\t']) {
        return None;
    }
    Some(Rule {
        stem: stem.to_owned(),
        needs: around.iter().flatten().cloned().chain(needs).collect(),
        words: words(value),
    })
}

/// The words of a value, with the prefixes of `$(addprefix folder/, …)`.
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut prefix = String::new();
    let mut is_prefix = false;
    for word in value.split_whitespace() {
        if word == "$(addprefix" {
            is_prefix = true;
        } else if is_prefix {
            let (named, rest) = word.split_once(',').unwrap_or((word, ""));
            named.clone_into(&mut prefix);
            is_prefix = false;
            if !rest.is_empty() {
                words.push(format!("{prefix}{rest}"));
            }
        } else {
            let ends = word.ends_with(')') && !word.contains('(');
            match word.trim_end_matches(')') {
                "" => {}
                word => words.push(format!("{prefix}{word}")),
            }
            if ends {
                prefix.clear();
            }
        }
    }
    words
}

/// The options that a text names.
fn options(text: &str) -> impl Iterator<Item = String> {
    let starts = text.match_indices("CONFIG_").map(|(start, _)| start);
    starts.map(|start| {
        let of_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        text[start..].chars().take_while(of_name).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Linux 7.3, shortened.
    const MAKEFILES: [(&str, &str); 9] = [
        (
            "",
            "obj-y\t\t\t+= fs/\nobj-y\t\t\t+= net/\nobj-$(CONFIG_BLOCK)\t+= block/\nobj-y += kernel/\n\
             obj-$(CONFIG_SAMPLES)\t+= samples/\n",
        ),
        (
            "net",
            "obj-$(CONFIG_NET)\t\t:= devres.o socket.o core/\nobj-$(CONFIG_NET)\t\t+= ethernet/ \
             802/ sched/ netlink/\nobj-$(CONFIG_INET)\t\t+= ipv4/\nobj-y\t\t\t\t+= ipv6/\n\
             ifneq ($(CONFIG_VLAN_8021Q),)\nobj-y\t\t\t\t+= 8021q/\nendif\n",
        ),
        (
            "net/ipv6",
            "obj-$(CONFIG_IPV6) += ipv6.o\n\nipv6-y :=\taf_inet6.o anycast.o \\\n\t\taddrlabel.o \\\n\
             \t\troute.o ping.o\n\nipv6-$(CONFIG_IPV6_MROUTE) += ip6mr.o\n\
             ifneq ($(CONFIG_IPV6),)\nobj-y += addrconf_core.o\nendif\n",
        ),
        (
            "net/8021q",
            "obj-$(CONFIG_VLAN_8021Q_GVRP)\t\t+= vlan_gvrp.o\n",
        ),
        (
            "fs",
            "obj-y :=\topen.o read_write.o\nobj-$(CONFIG_XFS_FS)\t\t+= xfs/\nifdef CONFIG_BLOCK\n\
             obj-y += mpage.o\nelse\nobj-y += no-block.o\nendif\n\
             obj-$(CONFIG_EXT4_FS) += deep/er/\n",
        ),
        (
            "fs/xfs",
            "obj-$(CONFIG_XFS_FS)\t\t+= xfs.o\nxfs-y\t\t\t\t+= $(addprefix libxfs/, \\\n\
             \t\t\t\txfs_ag.o \\\n\t\t\t\txfs_alloc.o \\\n\t\t\t\t)\nxfs-y += xfs_trace.o\n",
        ),
        ("fs/deep/er", "obj-y += x.o\n"),
        (
            "kernel",
            "obj-y = fork.o\nobj-$(CONFIG_A) += two.o\nobj-$(CONFIG_B) += two.o # or\n\
             obj-$(subst m,y,$(CONFIG_KVM)) += kvm.o\nalias = x-y\nCFLAGS_two.o = -DCONFIG_X\n",
        ),
        (
            "block",
            "ifeq ($(CONFIG_BLK_CGROUP),y)\nobj-y += blk-cgroup.o\nendif\n",
        ),
    ];

    fn missing(source: &str, set: &[&str]) -> String {
        let text = |folder: &Path| {
            let found = MAKEFILES.iter().find(|(name, _)| Path::new(name) == folder);
            found.map(|(_, text)| (*text).to_owned())
        };
        let is_set = |option: &str| set.contains(&option);
        missing_options(Path::new(source), text, is_set).unwrap_or_default()
    }

    #[test]
    fn a_file_hangs_on_its_own_option_and_on_its_folders() {
        assert_eq!(missing("net/ipv6/ping.c", &[]), "CONFIG_IPV6");
        assert_eq!(
            missing("net/ipv6/ip6mr.c", &[]),
            "CONFIG_IPV6 and CONFIG_IPV6_MROUTE"
        );
        assert_eq!(
            missing("net/ipv6/ip6mr.c", &["CONFIG_IPV6"]),
            "CONFIG_IPV6_MROUTE"
        );
        assert_eq!(missing("net/ipv6/addrconf_core.c", &[]), "CONFIG_IPV6");
        assert_eq!(
            missing("net/8021q/vlan_gvrp.c", &[]),
            "CONFIG_VLAN_8021Q and CONFIG_VLAN_8021Q_GVRP"
        );
        assert_eq!(missing("fs/xfs/libxfs/xfs_ag.c", &[]), "CONFIG_XFS_FS");
        assert_eq!(missing("fs/xfs/xfs_trace.c", &[]), "CONFIG_XFS_FS");
        assert_eq!(missing("fs/mpage.c", &[]), "CONFIG_BLOCK");
        assert_eq!(missing("fs/deep/er/x.c", &[]), "CONFIG_EXT4_FS");
        assert_eq!(
            missing("block/blk-cgroup.c", &[]),
            "CONFIG_BLOCK and CONFIG_BLK_CGROUP"
        );
        assert_eq!(missing("kernel/two.c", &[]), "CONFIG_A or CONFIG_B");
        assert_eq!(missing("kernel/kvm.c", &[]), "CONFIG_KVM");
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for known in ["kernel/two.c", "kernel/fork.c", "fs/no-block.c"] {
            assert_eq!(missing(known, &["CONFIG_B", "CONFIG_BLOCK"]), "", "{known}");
        }
        for unknown in ["kernel/unheard-of.c", "nowhere/x.c", "x.c"] {
            assert_eq!(missing(unknown, &[]), "", "{unknown}");
        }
    }
}
