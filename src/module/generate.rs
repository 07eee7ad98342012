// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenario → C: targets with functions to call, and livepatches. Pure.
//!
//! The result is meant to be read: it is kept in the run record, and it is what a bug report
//! quotes. What does not depend on the scenario is in `c/*.h`, beside this file.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::draft::{Draft, Place};
use crate::scenario::{
    Callback, Callbacks, Generated, Livepatch, NewFunction, Replace, Scenario, Snippet, Symbol,
    Target, TargetFunction, VMLINUX, kernel_module_name,
};

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// The sources of one module, which can be built by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSources {
    /// The module's name in the scenario.
    pub name: String,
    /// Its C.
    pub files: Vec<SourceFile>,
    /// The headers of the lab that the C includes.
    pub headers: Vec<SourceFile>,
    /// What its `Kbuild` says of it.
    pub kbuild: String,
    /// Where the author's own code is in it. That is no part of the C: a `#line` would make another
    /// module of it whenever the lines above it in the scenario change.
    pub places: Vec<Place>,
}

/// The modules that the lab generates for `scenario`: targets, then livepatches.
///
/// Nothing in them depends on the scenario's name or on its other modules, so that scenarios with
/// the same module share it.
pub fn modules(scenario: &Scenario) -> Vec<ModuleSources> {
    let targets = scenario.targets.iter();
    let targets = targets.filter(|target| target.is_generated());
    let livepatches = scenario.livepatches.iter();
    let livepatches = livepatches.filter_map(|livepatch| Some((livepatch, livepatch.generated()?)));
    targets
        .map(target_module)
        .chain(
            livepatches
                .map(|(livepatch, generated)| livepatch_module(scenario, livepatch, generated)),
        )
        .collect()
}

/// All files of the modules that the lab generates, with the `Kbuild` that lists them.
pub fn sources(scenario: &Scenario) -> Vec<SourceFile> {
    let mut kbuild = KBUILD_HEAD.to_owned();
    let (mut files, mut headers) = (Vec::new(), Vec::new());
    for module in modules(scenario) {
        kbuild += &module.kbuild;
        files.extend(module.files);
        headers.extend(module.headers);
    }
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    headers.dedup();
    files.extend(headers);
    files.push(SourceFile::new("Kbuild", kbuild));
    files
}

/// How every `Kbuild` begins.
pub const KBUILD_HEAD: &str = "# SPDX-License-Identifier: GPL-2.0-only\n";

fn hold_header() -> SourceFile {
    SourceFile::new("lab_hold.h", include_str!("c/hold.h"))
}

fn target_module(target: &Target) -> ModuleSources {
    let (mut files, mut kbuild) = (Vec::new(), String::new());
    target_sources(target, &mut kbuild, &mut files);
    let target_header = SourceFile::new("lab_target.h", include_str!("c/target.h"));
    ModuleSources {
        name: target.name.clone(),
        files,
        headers: vec![hold_header(), target_header],
        kbuild,
        places: Vec::new(),
    }
}

fn livepatch_module(
    scenario: &Scenario,
    livepatch: &Livepatch,
    generated: &Generated,
) -> ModuleSources {
    let module = kernel_module_name(&livepatch.name);
    let is_target = |object: &str| scenario.target(object).is_some_and(Target::is_generated);
    let holds = generated.objects.iter().any(|o| is_target(&o.object));
    let file = format!("{module}.c");
    let draft = livepatch_source(livepatch, generated, &is_target);
    ModuleSources {
        name: livepatch.name.clone(),
        places: draft.places_in(&file),
        files: vec![SourceFile::new(file, draft.text)],
        headers: if holds { vec![hold_header()] } else { vec![] },
        kbuild: format!("obj-m += {module}.o\n"),
    }
}

/// Functions of the same name need a file each: the n-th of a name is in the n-th file, in the
/// order in which they are linked, which makes it the n-th in kallsyms.
fn target_sources(target: &Target, kbuild: &mut String, files: &mut Vec<SourceFile>) {
    let module = kernel_module_name(&target.name);
    let mut units: BTreeMap<u32, Vec<&TargetFunction>> = BTreeMap::new();
    for function in &target.functions {
        let unit = function.symbol.sympos.max(1);
        units.entry(unit).or_default().push(function);
    }
    let _ = writeln!(kbuild, "obj-m += {module}.o");
    // No module has a `-` in its name, so a unit is never mistaken for one.
    let unit_name = |unit: u32| format!("{module}-{unit}");
    if units.len() > 1 {
        let objects: Vec<_> = units.keys().map(|&unit| unit_name(unit) + ".o").collect();
        let _ = writeln!(kbuild, "{module}-y := {}", objects.join(" "));
    }
    for (&unit, functions) in &units {
        let name = if units.len() > 1 {
            unit_name(unit)
        } else {
            module.clone()
        };
        let text = if unit == 1 {
            target_source(target, functions)
        } else {
            unit_source(&target.name, unit, functions)
        };
        let name = format!("{name}.c");
        files.push(SourceFile { name, text });
    }
}

fn target_function(function: &TargetFunction) -> String {
    let (name, returns) = (&function.symbol.name, function.returns);
    format!(
        "\n\
         static patchable int {name}(void)\n\
         {{\n\
         \tlab_hold_point();\n\
         \treturn {returns};\n\
         }}\n"
    )
}

/// The first file of a target, with its glue.
fn target_source(target: &Target, own: &[&TargetFunction]) -> String {
    let name = &target.name;
    let mut text = format!(
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         /*\n\
         \x20* Target `{name}`, generated.\n\
         \x20* Reading /sys/kernel/debug/lab-{name}/FUNCTION calls FUNCTION.\n\
         \x20*/\n\
         #include \"lab_target.h\"\n"
    );
    for function in own {
        text += &target_function(function);
    }
    let mut table = String::new();
    for function in &target.functions {
        let symbol = &function.symbol;
        let call = if symbol.sympos > 1 {
            let call = far_call(symbol.sympos, &symbol.name);
            let _ = write!(text, "\nint {call}(void);\n");
            call
        } else {
            symbol.name.clone()
        };
        let _ = writeln!(table, "\t{{ .name = \"{symbol}\", .call = {call} }},");
    }
    let init = match target.init {
        None => format!("\treturn lab_target_init(\"{name}\", lab_functions);\n"),
        Some(errno) => format!(
            "\tint err = lab_target_init(\"{name}\", lab_functions);\n\
             \n\
             \tif (err)\n\
             \t\treturn err;\n\
             \tlab_target_exit();\n\
             \treturn -{errno};\n"
        ),
    };
    let _ = write!(
        text,
        "\n\
         static struct lab_function lab_functions[] = {{\n\
         {table}\
         \t{{ }}\n\
         }};\n\
         \n\
         static int __init lab_init(void)\n\
         {{\n\
         {init}\
         }}\n\
         \n\
         static void __exit lab_exit(void)\n\
         {{\n\
         \tlab_target_exit();\n\
         }}\n\
         \n\
         module_init(lab_init);\n\
         module_exit(lab_exit);\n"
    );
    text + &footer("target", name)
}

/// A further file of a target, for functions whose names are already taken.
fn unit_source(target: &str, unit: u32, functions: &[&TargetFunction]) -> String {
    let mut text = format!(
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         /* Functions of target `{target}` with sympos {unit}, generated. */\n\
         #include \"lab_hold.h\"\n\
         \n\
         #define patchable noinline __attribute__((__noipa__))\n"
    );
    for function in functions {
        let (name, call) = (&function.symbol.name, far_call(unit, &function.symbol.name));
        text += &target_function(function);
        let _ = write!(
            text,
            "\n\
             int {call}(void);\n\
             int {call}(void)\n\
             {{\n\
             \treturn {name}();\n\
             }}\n"
        );
    }
    text
}

/// What calls a function from another file than its own.
fn far_call(unit: u32, function: &str) -> String {
    format!("lab_call_{unit}_{function}")
}

fn livepatch_source(
    livepatch: &Livepatch,
    generated: &Generated,
    is_target: &dyn Fn(&str) -> bool,
) -> Draft {
    let name = &livepatch.name;
    let mut draft = Draft::default();
    let _ = write!(
        draft.text,
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         /* Livepatch `{name}`, generated. */\n\
         #undef pr_fmt\n\
         #define pr_fmt(fmt) KBUILD_MODNAME \": \" fmt\n\
         \n\
         #include <linux/livepatch.h>\n\
         #include <linux/module.h>\n"
    );
    for include in includes(generated) {
        draft.mark(include);
        let _ = writeln!(draft.text, "#include <{}>", include.text);
    }
    if generated.objects.iter().any(|o| is_target(&o.object)) {
        draft.text += "#include \"lab_hold.h\"\n";
    }
    if let Some(preamble) = &generated.preamble {
        draft.text += "\n";
        draft.mark(preamble);
        let _ = writeln!(draft.text, "{}", preamble.text.trim_end());
    }
    for (index, object) in generated.objects.iter().enumerate() {
        let hold = if is_target(&object.object) {
            "\tlab_hold_point();\n"
        } else {
            ""
        };
        for function in &object.functions {
            let new_name = new_name(index, &function.symbol);
            draft.text += "\n";
            match &function.new {
                NewFunction::Returns(value) => {
                    let function = format!("int {new_name}(void)\n{{\n{hold}\treturn {value};\n}}");
                    let _ = writeln!(draft.text, "static {function}");
                }
                NewFunction::C {
                    signature, body, ..
                } => {
                    draft.mark(signature);
                    let signature = rename(&signature.text, &function.symbol.name, &new_name);
                    let _ = write!(draft.text, "static {signature}\n{{\n{hold}");
                    draft.mark(body);
                    draft.text += &indent(&body.text);
                    draft.text += "}\n";
                }
            }
        }
    }
    for (index, callbacks) in generated.callbacks.iter().enumerate() {
        for (kind, callback) in of_kinds(callbacks) {
            callback_source(&mut draft, index, kind, callback, &callbacks.object);
        }
    }
    let text = &mut draft.text;
    *text += &objects_source(generated);
    *text += &states_source(generated);
    let replace = match livepatch.replace {
        Replace::Flag(flag) => flag.to_string(),
        Replace::Tag(tag) => format!("{tag}u"),
    };
    let states = if generated.states.is_empty() {
        ""
    } else {
        "\t.states = lab_states,\n"
    };
    let _ = write!(
        text,
        "\n\
         static struct klp_patch lab_patch = {{\n\
         \t.mod = THIS_MODULE,\n\
         \t.objs = lab_objs,\n\
         {states}\
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
    *text += &footer("livepatch", name);
    draft
}

/// The callbacks that there are, with the names of their fields.
fn of_kinds(callbacks: &Callbacks) -> impl Iterator<Item = (&'static str, &Callback)> {
    let all = [
        ("pre_patch", &callbacks.pre_patch),
        ("post_patch", &callbacks.post_patch),
        ("pre_unpatch", &callbacks.pre_unpatch),
        ("post_unpatch", &callbacks.post_unpatch),
    ];
    all.into_iter()
        .filter_map(|(kind, callback)| Some((kind, callback.as_ref()?)))
}

/// A callback first says that it was called, for the log.
fn callback_source(draft: &mut Draft, index: usize, kind: &str, callback: &Callback, object: &str) {
    let may_fail = kind == "pre_patch";
    let returns = if may_fail { "int" } else { "void" };
    let _ = write!(
        draft.text,
        "\nstatic {returns} lab_{kind}_{index}(struct klp_object *obj)\n{{\n\
         \tpr_info(\"{kind}: {object}\\n\");\n"
    );
    match callback {
        Callback::Log => {}
        Callback::Fail(errno) => {
            let _ = writeln!(draft.text, "\treturn -{errno};");
        }
        // A block of its own: it may begin with declarations.
        Callback::C(code) => {
            draft.text += "\t{\n";
            draft.mark(code);
            draft.text += &indent(&indent(&code.text));
            draft.text += "\t}\n";
        }
    }
    if may_fail && !matches!(callback, Callback::Fail(_)) {
        draft.text += "\treturn 0;\n";
    }
    draft.text += "}\n";
}

/// `lab_objs`: what is patched, and what only has callbacks.
fn objects_source(generated: &Generated) -> String {
    let mut text = String::new();
    let mut table = String::new();
    let mut object_of = |index: usize, object: &str, callbacks: Option<usize>| {
        let name = match object {
            VMLINUX => String::new(),
            module => format!("\t\t.name = \"{}\",\n", kernel_module_name(module)),
        };
        let _ = write!(table, "\t{{\n{name}\t\t.funcs = lab_funcs_{index},\n");
        if let Some(number) = callbacks {
            table += "\t\t.callbacks = {\n";
            for (kind, _) in of_kinds(&generated.callbacks[number]) {
                let _ = writeln!(table, "\t\t\t.{kind} = lab_{kind}_{number},");
            }
            table += "\t\t},\n";
        }
        table += "\t},\n";
    };
    let callbacks_of = |object: &str| generated.callbacks.iter().position(|c| c.object == object);
    for (index, object) in generated.objects.iter().enumerate() {
        let _ = write!(text, "\nstatic struct klp_func lab_funcs_{index}[] = {{\n");
        for function in &object.functions {
            let (symbol, new) = (&function.symbol, new_name(index, &function.symbol));
            let sympos = match symbol.sympos {
                0 => String::new(),
                sympos => format!(", .old_sympos = {sympos}"),
            };
            let _ = writeln!(
                text,
                "\t{{ .old_name = \"{}\", .new_func = {new}{sympos} }},",
                symbol.name
            );
        }
        text += "\t{ }\n};\n";
        object_of(index, &object.object, callbacks_of(&object.object));
    }
    let mut index = generated.objects.len();
    for (number, callbacks) in generated.callbacks.iter().enumerate() {
        let patched = |o: &crate::scenario::PatchedObject| o.object == callbacks.object;
        if generated.objects.iter().any(patched) {
            continue;
        }
        let _ = write!(
            text,
            "\nstatic struct klp_func lab_funcs_{index}[] = {{\n\t{{ }}\n}};\n"
        );
        object_of(index, &callbacks.object, Some(number));
        index += 1;
    }
    text + &format!("\nstatic struct klp_object lab_objs[] = {{\n{table}\t{{ }}\n}};\n")
}

fn states_source(generated: &Generated) -> String {
    if generated.states.is_empty() {
        return String::new();
    }
    let mut text = "\nstatic struct klp_state lab_states[] = {\n".to_owned();
    for state in &generated.states {
        let _ = writeln!(
            text,
            "\t{{ .id = {}, .version = {} }},",
            state.id, state.version
        );
    }
    text + "\t{ }\n};\n"
}

fn footer(kind: &str, name: &str) -> String {
    format!(
        "MODULE_DESCRIPTION(\"lab: {kind} {name}\");\n\
         MODULE_LICENSE(\"GPL\");\n"
    )
}

fn includes(generated: &Generated) -> Vec<&Snippet> {
    let functions = generated
        .objects
        .iter()
        .flat_map(|object| &object.functions);
    let mut all: Vec<&Snippet> = functions
        .flat_map(|function| match &function.new {
            NewFunction::C { include, .. } => include.as_slice(),
            NewFunction::Returns(_) => &[],
        })
        .chain(&generated.include)
        .collect();
    all.sort_by(|a, b| a.text.cmp(&b.text));
    all.dedup_by(|a, b| a.text == b.text);
    all
}

/// Two objects may each have a function of the same name, and one object several.
fn new_name(object: usize, symbol: &Symbol) -> String {
    match symbol.sympos {
        0 => format!("lab_new_{object}_{}", symbol.name),
        sympos => format!("lab_new_{object}_{}_{sympos}", symbol.name),
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
        let yaml = r#"
version: 1
summary: x
requires: { replace: tags }
targets:
  shop: { functions: { "price,1": 10, "price,2": 20 } }
livepatches:
  pricing-v1:
    tag: 4294967295
    patches: { shop: { "price,2": -11 } }
    states: [{ id: 1, version: 2 }]
    preamble: static int seen;
    callbacks:
      shop: { pre_patch: ENODEV, post_patch: { body: "seen = 1;" } }
      vmlinux: { pre_patch: log }
  cmdline:
    patches:
      vmlinux:
        cmdline_proc_show:
          signature: int cmdline_proc_show(struct seq_file *m, void *v)
          include: [linux/seq_file.h]
          body: |
            seq_puts(m, "patched\n");
            return 0;
steps:
  - load: shop
"#;
        let source = Source::new("x.yaml", yaml);
        let scenario = crate::scenario::parse("x", &source);
        let scenario = scenario
            .map_err(|errors| errors.render(&source, false))
            .unwrap();
        let text: String = sources(&scenario)
            .iter()
            .filter(|file| !file.name.starts_with("lab_"))
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
