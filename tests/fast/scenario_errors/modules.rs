// SPDX-License-Identifier: MIT OR Apache-2.0
//! Targets and livepatches.

use super::{errors, with_functions, with_livepatches};

#[test]
fn a_negative_tag() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { tag: -1, patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn a_tag_that_is_too_large() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { tag: 4294967296, patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn tag_and_replace() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    tag: 1
    replace: true
    patches: { shop: { price: 11 } }
"
    ));
}

#[test]
fn a_tag_that_is_not_required() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nrequires: { replace: bool }\ntargets: { shop: { functions: { price: 10 } } }\nlivepatches: { fix: { tag: 1, patches: { shop: { price: 11 } } } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn empty_patches() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: {} }
  fix-too: { patches: { shop: {} } }
"
    ));
}

#[test]
fn module_names() {
    insta::assert_snapshot!(with_livepatches(
        "  Fix: { patches: { shop: { price: 11 } } }
  \"fix\\t1\": { patches: { shop: { price: 11 } } }
  a-name-that-goes-on-for-more-than-40-chars: { patches: { shop: { price: 11 } } }
  vmlinux: { patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn names_that_are_the_same_module() {
    insta::assert_snapshot!(with_livepatches(
        "  stock-fix: { patches: { shop: { price: 11 } } }
  stock_fix: { patches: { shop: { price: 11 } } }
  shop: { patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn function_names() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\ntargets: { shop: { functions: { while: 10, 1st: 1, a-b: 2, init_module: 3 } } }\nlivepatches: { fix: { patches: { shop: { while: 11 } } } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn a_patched_function_that_the_target_does_not_have() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: { shop: { pirce: 11, inventory: 3 } } }
"
    ));
}

#[test]
fn a_return_value_for_a_function_of_vmlinux() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: { vmlinux: { cmdline_proc_show: 1 } } }
"
    ));
}

#[test]
fn a_return_value_for_a_misspelt_target() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { patches: { shpo: { price: 1 } } }
"
    ));
}

#[test]
fn an_object_that_is_patched_twice() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
      kvm-intel: { f: { signature: int f(void), body: return 0; } }
      kvm_intel: { g: { signature: int g(void), body: return 0; } }
"
    ));
}

#[test]
fn a_signature_of_another_function() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
      vmlinux:
        cmdline_proc_show:
          signature: int cmdline_show(struct seq_file *m, void *v)
          body: return 0;
"
    ));
}

#[test]
fn a_function_in_c_that_is_incomplete() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches:
      vmlinux:
        f:
          signature: int f(void);
          include: [<linux/seq_file.h>]
"
    ));
}

#[test]
fn positions_that_are_none() {
    insta::assert_snapshot!(with_functions(
        "      price,0: 1
      price,01: 1
      price,1000: 1
      stock,1: 1
      stock,two: 1
"
    ));
}

#[test]
fn a_position_of_a_single_function() {
    insta::assert_snapshot!(with_functions(
        "      price,1: 10
      stock,2: 20
      tax,4: 30
"
    ));
}

#[test]
fn a_plain_function_beside_one_with_a_position() {
    insta::assert_snapshot!(with_functions(
        "      price: 10
      price,1: 11
      price,4: 12
"
    ));
}

#[test]
fn positions_with_gaps() {
    insta::assert_snapshot!(with_functions(
        "      price,5: 14
      price,2: 11
      price,3: 12
"
    ));
}

#[test]
fn positions_of_patched_functions() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: x
targets: { shop: { functions: { price: 10, \"stock,1\": 20, \"stock,2\": 21 } } }
livepatches:
  right: { patches: { shop: { price: 1, \"price,1\": 1, stock: 2, \"stock,2\": 2 } } }
  fix: { patches: { shop: { \"price,2\": 11, \"stock,3\": 22, \"stok,1\": 2 } } }
steps: [load: shop]
"
    ));
}

#[test]
fn a_livepatch_without_code() {
    insta::assert_snapshot!(with_livepatches(
        "  fix: { tag: 1 }
"
    ));
}

#[test]
fn a_livepatch_with_two_sources_of_code() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    klp-build: fix.patch
"
    ));
}

#[test]
fn what_klp_build_does_not_know() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    klp-build: fix.patch
    include: linux/slab.h
    preamble: static int seen;
    states: [{ id: 1, version: 2 }]
    callbacks: { shop: { pre_patch: log } }
"
    ));
}

#[test]
fn a_tag_of_klp_build_that_is_not_required() {
    insta::assert_snapshot!(errors(
        "version: 1\nsummary: x\nlivepatches: { fix: { tag: 1, klp-build: fix.patch } }\nsteps: [load: fix]\n"
    ));
}

#[test]
fn source_patches() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    klp-build:
      - /tmp/fix.patch
      - ../fix.patch
      - a//fix.diff
      - a b.patch
      - \"a\\tb.patch\"
      - fix.c
      - right.patch
      - right.patch
  empty: { klp-build: [] }
"
    ));
}

#[test]
fn an_empty_preamble_and_no_header() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    include: []
    preamble: \" \"
    states: []
    callbacks: {}
    patches: { shop: { price: 11 } }
"
    ));
}

#[test]
fn states() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    states:
      - { id: 0, version: 4294967296 }
      - { id: 1, version: 0 }
      - { id: 1, version: 2 }
      - { id: 3 }
"
    ));
}

#[test]
fn only_pre_patch_can_fail() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    callbacks:
      shop: { pre_patch: ENODEV, post_patch: ENODEV, pre_unpatch: EIO, post_unpatch: EPERM }
"
    ));
}

#[test]
fn callbacks_that_are_none() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    callbacks:
      shop: { pre_patch: EINVALID, post_patch: lgo, pre_unpatch: 1, post_unpatch: { boody: x } }
      kvm: { post-patch: log }
      nfs: {}
"
    ));
}

#[test]
fn callbacks_of_an_object_under_two_spellings() {
    insta::assert_snapshot!(with_livepatches(
        "  fix:
    patches: { shop: { price: 11 } }
    callbacks:
      kvm-intel: { pre_patch: log }
      kvm_intel: { pre_patch: log }
"
    ));
}

#[test]
fn a_livepatch_called_none() {
    insta::assert_snapshot!(with_livepatches(
        "  none: { patches: { shop: { price: 11 } } }
"
    ));
}

#[test]
fn modules_of_the_kernels_selftests_have_no_content() {
    insta::assert_snapshot!(with_livepatches(
        "  test_klp_livepatch: kselftests
  test_klp_state: 1
"
    ));
}

#[test]
fn what_does_not_go_with_a_module_that_was_built_elsewhere() {
    insta::assert_snapshot!(errors(
        "version: 1
summary: x
requires: { replace: tags }
targets:
  shop: { ko: shop.ko, functions: { price: 10 } }
  depot: { ko: depot.ko }
  empty: {}
livepatches:
  tagged: { ko: tagged.ko, tag: 1 }
  both: { ko: both.ko, patches: { vmlinux: { f: { signature: int f(void), body: return 0; } } } }
  own: { patches: { depot: { price: 1 } } }
steps:
  - call: depot.price
"
    ));
}

#[test]
fn files_that_no_module_has() {
    insta::assert_snapshot!(with_livepatches(
        "  a: { ko: /lib/modules/a.ko }
  b: { ko: ../b.ko }
  c: { ko: c.ko.xz }
  d: { ko: $(id).ko }
"
    ));
}
