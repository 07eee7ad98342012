// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenario → C: targets with functions to call, and livepatches. Pure.
//!
//! The result is meant to be read: it is kept in the run record, and it is what a bug report
//! quotes.

use std::fmt::Write;

use crate::scenario::{
    Livepatch, NewFunction, PatchedObject, Replace, Scenario, Target, VMLINUX, kernel_module_name,
};

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// All files of a scenario's modules: one C file each, and the `Kbuild` that lists them.
pub fn sources(scenario: &Scenario) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut kbuild = "# SPDX-License-Identifier: GPL-2.0-only\n".to_owned();
    let modules = scenario
        .targets
        .iter()
        .map(|target| (&target.name, target_source(&scenario.name, target)))
        .chain(
            scenario
                .livepatches
                .iter()
                .map(|livepatch| (&livepatch.name, livepatch_source(&scenario.name, livepatch))),
        );
    for (name, text) in modules {
        let module = kernel_module_name(name);
        let _ = writeln!(kbuild, "obj-m += {module}.o");
        files.push(SourceFile {
            name: format!("{module}.c"),
            text,
        });
    }
    files.push(SourceFile {
        name: "Kbuild".to_owned(),
        text: kbuild,
    });
    files
}

fn target_source(scenario: &str, target: &Target) -> String {
    let name = &target.name;
    let mut text = format!(
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         /*\n\
         \x20* Target `{name}` of scenario `{scenario}`, generated.\n\
         \x20* Reading /sys/kernel/debug/lab-{name}/FUNCTION calls FUNCTION.\n\
         \x20*/\n\
         #include <linux/debugfs.h>\n\
         #include <linux/err.h>\n\
         #include <linux/module.h>\n\
         \n\
         /*\n\
         \x20* The compiler must not look into a function that gets livepatched: a constant folded\n\
         \x20* into the caller, or two equal functions merged into one, would hide the livepatch.\n\
         \x20*/\n\
         #define patchable noinline __attribute__((__noipa__))\n"
    );
    for function in &target.functions {
        let (function, returns) = (&function.name, function.returns);
        let _ = write!(
            text,
            "\n\
             static patchable int {function}(void)\n\
             {{\n\
             \treturn {returns};\n\
             }}\n\
             \n\
             static int lab_get_{function}(void *data, u64 *value)\n\
             {{\n\
             \t*value = {function}();\n\
             \treturn 0;\n\
             }}\n\
             DEFINE_DEBUGFS_ATTRIBUTE(lab_fops_{function}, lab_get_{function}, NULL, \"%lld\\n\");\n"
        );
    }
    text += "\nstatic struct dentry *lab_dir;\n\n\
             static int __init lab_target_init(void)\n{\n";
    let _ = writeln!(
        text,
        "\tlab_dir = debugfs_create_dir(\"lab-{name}\", NULL);"
    );
    text += "\tif (IS_ERR(lab_dir))\n\t\treturn PTR_ERR(lab_dir);\n";
    for function in &target.functions {
        let function = &function.name;
        let _ = writeln!(
            text,
            "\tdebugfs_create_file(\"{function}\", 0400, lab_dir, NULL, &lab_fops_{function});"
        );
    }
    text += "\treturn 0;\n}\n\n\
             static void __exit lab_target_exit(void)\n\
             {\n\
             \tdebugfs_remove(lab_dir);\n\
             }\n\n\
             module_init(lab_target_init);\n\
             module_exit(lab_target_exit);\n";
    text + &footer(scenario, "target", name)
}

fn livepatch_source(scenario: &str, livepatch: &Livepatch) -> String {
    let name = &livepatch.name;
    let mut text = format!(
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         /* Livepatch `{name}` of scenario `{scenario}`, generated. */\n\
         #include <linux/livepatch.h>\n\
         #include <linux/module.h>\n"
    );
    for include in includes(livepatch) {
        let _ = writeln!(text, "#include <{include}>");
    }
    for (index, object) in livepatch.objects.iter().enumerate() {
        for function in &object.functions {
            text.push('\n');
            let new_name = new_name(index, &function.name);
            match &function.new {
                NewFunction::Returns(value) => {
                    let _ = write!(
                        text,
                        "static int {new_name}(void)\n{{\n\treturn {value};\n}}\n"
                    );
                }
                NewFunction::C {
                    signature, body, ..
                } => {
                    let signature = rename(signature, &function.name, &new_name);
                    let _ = write!(text, "static {signature}\n{{\n{}}}\n", indent(body));
                }
            }
        }
    }
    for (index, object) in livepatch.objects.iter().enumerate() {
        let _ = write!(text, "\nstatic struct klp_func lab_funcs_{index}[] = {{\n");
        for function in &object.functions {
            let (old, new) = (&function.name, new_name(index, &function.name));
            let _ = writeln!(text, "\t{{ .old_name = \"{old}\", .new_func = {new} }},");
        }
        text += "\t{ }\n};\n";
    }
    text += "\nstatic struct klp_object lab_objs[] = {\n";
    for (index, object) in livepatch.objects.iter().enumerate() {
        let _ = writeln!(
            text,
            "\t{{ {}.funcs = lab_funcs_{index} }},",
            object_name(object)
        );
    }
    let replace = match livepatch.replace {
        Replace::Flag(flag) => flag.to_string(),
        Replace::Tag(tag) => format!("{tag}u"),
    };
    let _ = write!(
        text,
        "\t{{ }}\n}};\n\n\
         static struct klp_patch lab_patch = {{\n\
         \t.mod = THIS_MODULE,\n\
         \t.objs = lab_objs,\n\
         \t.replace = {replace},\n\
         }};\n\n\
         static int __init lab_livepatch_init(void)\n\
         {{\n\
         \treturn klp_enable_patch(&lab_patch);\n\
         }}\n\n\
         static void __exit lab_livepatch_exit(void)\n\
         {{\n\
         }}\n\n\
         module_init(lab_livepatch_init);\n\
         module_exit(lab_livepatch_exit);\n\
         MODULE_INFO(livepatch, \"Y\");\n"
    );
    text + &footer(scenario, "livepatch", name)
}

fn footer(scenario: &str, kind: &str, name: &str) -> String {
    format!(
        "MODULE_DESCRIPTION(\"lab: {kind} {name} of {scenario}\");\n\
         MODULE_LICENSE(\"GPL\");\n"
    )
}

fn includes(livepatch: &Livepatch) -> Vec<&str> {
    let functions = livepatch
        .objects
        .iter()
        .flat_map(|object| &object.functions);
    let mut all: Vec<&str> = functions
        .flat_map(|function| match &function.new {
            NewFunction::C { include, .. } => include.as_slice(),
            NewFunction::Returns(_) => &[],
        })
        .map(String::as_str)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Two objects may each have a function of the same name.
fn new_name(object: usize, function: &str) -> String {
    format!("lab_new_{object}_{function}")
}

fn object_name(object: &PatchedObject) -> String {
    match object.object.as_str() {
        VMLINUX => String::new(),
        module => format!(".name = \"{}\", ", kernel_module_name(module)),
    }
}

/// The signature with the function's name replaced. Its position is where the name is followed by
/// the parameters; the scenario's validation has made sure that there is one.
fn rename(signature: &str, old: &str, new: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (start, _) in signature.match_indices(old) {
        let (before, after) = (&signature[..start], &signature[start + old.len()..]);
        if !before.ends_with(is_word) && after.trim_start().starts_with('(') {
            return format!("{before}{new}{after}");
        }
    }
    signature.to_owned()
}

fn indent(body: &str) -> String {
    let line = |line: &str| {
        if line.is_empty() {
            "\n".to_owned()
        } else {
            format!("\t{line}\n")
        }
    };
    body.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Source;

    #[test]
    fn the_generated_modules_read_well() {
        let yaml = "version: 1\nsummary: x\nrequires: { replace: tags }\n\
            targets:\n  shop: { functions: { price: 10 } }\n\
            livepatches:\n  pricing-v1: { tag: 4294967295, patches: { shop: { price: -11 } } }\n  \
            cmdline:\n    patches:\n      vmlinux:\n        cmdline_proc_show:\n          \
            signature: int cmdline_proc_show(struct seq_file *m, void *v)\n          \
            include: [linux/seq_file.h]\n          body: |\n            \
            seq_puts(m, \"patched\\n\");\n            return 0;\n\
            steps:\n  - load: shop\n";
        let source = Source::new("x.yaml", yaml);
        let scenario = crate::scenario::parse("x", &source);
        let scenario = scenario
            .map_err(|errors| errors.render(&source, false))
            .unwrap();
        let text: String = sources(&scenario)
            .iter()
            .map(|file| format!("==> {} <==\n{}\n", file.name, file.text))
            .collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn only_the_name_before_the_parameters_is_replaced() {
        let signature = "struct price_info *price(struct price *price)";
        assert_eq!(
            rename(signature, "price", "new"),
            "struct price_info *new(struct price *price)"
        );
    }
}
