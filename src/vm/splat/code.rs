// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which code a splat is about: the function in RIP or pc, or the first frame that is not there to
//! report, to lock, to wait or to copy. Pure.

use super::marks::Code;
use super::pattern::is_like;

/// Functions that are found where others are at fault; `*` is anything. Each group says why.
const PASSED_OVER: &[&[&str]] = &[
    // They write the report.
    &[
        "dump_stack*",
        "__dump_stack",
        "show_stack*",
        "show_regs*",
        "__show_regs",
        "dump_backtrace*",
        "panic",
        "vpanic",
        "nmi_panic",
        "die",
        "die_addr",
        "die_kernel_fault",
        "__die*",
        "oops_*",
        "__warn*",
        "warn_slowpath_*",
        "report_bug*",
        "__report_bug",
        "bug_handler",
        "brk_handler",
        "handle_bug",
        "fixup_bug*",
        "do_error_trap",
        "do_trap*",
        "do_invalid_op",
        "invalid_op",
        "exc_invalid_op",
        "asm_exc_*",
        "exc_page_fault",
        "no_context",
        "page_fault_oops",
        "print_report",
        "print_address_description*",
        "end_report",
        "kasan_*",
        "__kasan_*",
        "*_kasan_*",
        "__asan_*",
        "__hwasan_*",
        "check_memory_region*",
        "memory_is_poisoned*",
        "kcsan_*",
        "__tsan_*",
        "kmsan_*",
        "__msan_*",
        "kfence_*",
        "__kfence_*",
        "ubsan_*",
        "__ubsan_*",
        "handle_overflow",
        "instrument_*",
        "debug_print_object",
        "debug_object_*",
        "__debug_object_*",
        "debug_check_no_obj_freed",
        "__debug_check_no_obj_freed",
        "slab_err",
        "slab_bug",
        "slab_fix",
        "object_err",
        "print_trailer",
        "check_object",
        "check_slab",
        "check_bytes_and_report",
        "on_freelist",
        "slab_pad_check",
        "bad_page",
        "ftrace_bug",
        "bust_spinlocks",
        "notify_die",
        "atomic_notifier_call_chain",
        "notifier_call_chain",
    ],
    // They check a rule, for a caller that broke it.
    &[
        "*might_sleep",
        "__might_resched",
        "__might_fault",
        "might_fault",
        "__cant_sleep",
        "__cant_migrate",
        "__schedule_bug",
        "check_preemption_disabled",
        "debug_smp_processor_id",
        "__this_cpu_preempt_check",
        "print_*_bug",
        "print_*_report",
        "print_bad_irq_dependency",
        "check_prev*_add*",
        "check_noncircular",
        "check_deadlock*",
        "check_irq_usage",
        "check_wait_context",
        "validate_chain*",
        "mark_lock*",
        "mark_usage",
        "mark_held_locks",
        "valid_state",
        "register_lock_class",
        "assign_lock_key",
        "look_up_lock_class",
        "lock_acquire*",
        "__lock_acquire*",
        "lock_release*",
        "__lock_release*",
        "lock_downgrade",
        "lockdep_*",
        "trace_hardirqs_*",
        "__trace_hardirqs_*",
        "rcu_lock_*",
        "rcu_read_*lock*",
        "debug_check_no_locks_*",
        "refcount_*",
        "__refcount_*",
        "kref_*",
        "__list_add*",
        "__list_del*",
        "list_add*",
        "list_del*",
        "usercopy_*",
        "__check_object_size",
        "check_heap_object",
        "fortify_panic",
        "__fortify_panic",
        "__fortify_report",
        "__stack_chk_fail",
        "skb_panic",
        "skb_over_panic",
        "skb_under_panic",
        "work_is_static_object",
        "timer_is_static_object",
        "timer_fixup_*",
        "stub_timer",
    ],
    // They take, release or wait for a lock, or sleep.
    &[
        "_raw_spin_*",
        "__raw_spin_*",
        "do_raw_spin_*",
        "_raw_read_*",
        "_raw_write_*",
        "do_raw_*",
        "spin_lock*",
        "spin_unlock*",
        "spin_bug",
        "spin_dump",
        "rwlock_bug",
        "queued_spin_*",
        "queued_read_*",
        "queued_write_*",
        "native_queued_spin_*",
        "__pv_queued_spin_*",
        "pv_wait*",
        "__pv_*",
        "kvm_wait",
        "mutex_*",
        "__mutex_*",
        "ww_mutex_*",
        "rt_mutex_*",
        "__rt_mutex_*",
        "rt_spin_*",
        "rtlock_*",
        "down",
        "down_*",
        "__down*",
        "up",
        "up_read",
        "up_write",
        "rwsem_*",
        "__rwsem_*",
        "percpu_down_*",
        "percpu_rwsem_*",
        "__percpu_down_*",
        "percpu_up_*",
        "schedule",
        "schedule_*",
        "__schedule*",
        "io_schedule*",
        "preempt_schedule*",
        "context_switch",
        "__switch_to*",
        "wait_for_completion*",
        "__wait_for_common",
        "do_wait_for_common",
        "wait_for_common",
        "bit_wait*",
        "__wait_on_bit*",
        "out_of_line_wait_*",
        "msleep*",
        "usleep_range*",
        "seqcount_*",
        "read_seq*",
        "write_seq*",
        "osq_lock",
        "synchronize_rcu*",
        "synchronize_sched*",
        "synchronize_srcu",
        "__synchronize_srcu",
        "__wait_rcu_gp",
        "rcu_barrier",
    ],
    // They copy, compare, allocate or free for a caller that has the address.
    &[
        "memcpy*",
        "__memcpy*",
        "memmove*",
        "__memmove*",
        "__pi_mem*",
        "memset*",
        "__memset*",
        "memcmp*",
        "__memcmp",
        "memchr*",
        "strcmp",
        "strncmp",
        "strlen",
        "strnlen",
        "strcpy",
        "strncpy",
        "strlcpy",
        "strscpy*",
        "sized_strscpy",
        "strcat",
        "strstr",
        "strchr",
        "strsep",
        "__pi_str*",
        "copy_to_user*",
        "_copy_to_user",
        "copy_from_user*",
        "_copy_from_user",
        "__copy_user*",
        "__arch_copy_*",
        "raw_copy_*",
        "copy_user_*",
        "rep_movs_*",
        "rep_stos_*",
        "clear_user*",
        "get_user*",
        "put_user*",
        "__get_user*",
        "__put_user*",
        "_copy_to_iter",
        "_copy_from_iter*",
        "csum_partial*",
        "read_word_at_a_time",
        "load_unaligned_zeropad",
        "kfree",
        "kvfree",
        "vfree",
        "kfree_sensitive",
        "kzfree",
        "__kmem_cache_free",
        "kmem_cache_free*",
        "__slab_free",
        "do_slab_free",
        "slab_free*",
        "free_to_partial_list",
        "free_debug_processing",
        "free_consistency_checks",
        "cache_free_debugcheck",
        "__cache_free",
        "kmalloc*",
        "__kmalloc*",
        "__do_kmalloc*",
        "kmem_cache_alloc*",
        "slab_alloc*",
        "___slab_alloc",
        "__slab_alloc*",
        "slab_pre_alloc_hook",
        "slab_post_alloc_hook",
        "alloc_debug_processing",
        "krealloc*",
        "kstrdup*",
        "kmemdup*",
        "set_track*",
        "save_stack*",
        "arch_atomic*",
        "raw_atomic*",
        "atomic64_*",
        "atomic_read*",
        "atomic_inc*",
        "atomic_dec*",
        "atomic_add*",
        "atomic_sub*",
        "atomic_fetch_*",
        "test_bit",
        "_test_bit",
        "set_bit",
        "clear_bit",
        "test_and_*_bit",
        "_find_next_bit",
        "_find_first_bit",
        "variable_test_bit",
        "constant_test_bit",
    ],
];

/// Where a CPU is found that waits, or that is asked where it is: the tick, the NMI, the idle loop.
const WAITS: &[&[&str]] = &[&[
    "nmi_*",
    "*trigger_*cpu*_backtrace*",
    "arch_trigger_*",
    "rcu_dump_*",
    "rcu_check_*",
    "rcu_sched_clock_irq",
    "rcu_pending",
    "check_cpu_stall*",
    "print_*cpu_stall*",
    "update_process_times",
    "tick_*",
    "__hrtimer_*",
    "hrtimer_*",
    "*apic_timer_interrupt",
    "local_apic_timer_interrupt",
    "watchdog_timer_fn",
    "watchdog_overflow_callback",
    "watchdog_hardlockup_check",
    "arch_timer_*",
    "handle_percpu_*",
    "default_idle*",
    "native_safe_halt",
    "pv_native_safe_halt",
    "arch_cpu_idle",
    "cpu_do_idle",
    "do_idle",
    "cpu_idle_*",
    "acpi_*idle*",
    "cpuidle_*",
    "mwait_idle*",
    "cpu_relax",
    "delay_*",
    "__delay",
    "__const_udelay",
    "__udelay",
    "native_read_tsc",
    "smp_call_function_*",
    "csd_lock_wait*",
    "__csd_lock_wait*",
    "sched_show_task",
    "dump_cpu_task",
    "console_unlock",
    "vprintk*",
    "_printk",
    "printk",
]];

/// What has the address where a CPU was.
const REGISTERS: [&str; 7] = [
    "RIP: ",
    "RIP  ",
    "EIP: ",
    "EIP is at ",
    "IP: ",
    "pc : ",
    "PC is at ",
];

/// Looks for the code of a splat, line by line.
#[derive(Debug)]
pub struct Search {
    code: Code,
    /// Whether frames count by now.
    armed: bool,
    /// What was found first, and at which line.
    found: Option<(String, usize)>,
    /// What was passed over first: better than nothing.
    passed_over: Option<(String, usize)>,
    /// The first frame of a stack, where registers would be better.
    frame: Option<(String, usize)>,
    /// Whether the next line is the address of something else.
    aside: bool,
}

impl Search {
    /// Begins with the title, which may name it.
    pub fn new(code: Code, title: &str) -> Self {
        let mut search = Self {
            code,
            armed: code == Code::Frames,
            found: None,
            passed_over: None,
            frame: None,
            aside: false,
        };
        if let Some(function) = of_title(title) {
            search.take(function, 0);
        }
        search
    }

    /// Whether there is nothing left to look for.
    pub fn is_over(&self) -> bool {
        self.found.is_some() || self.code == Code::Unsaid
    }

    /// Reads the message of a line.
    pub fn line(&mut self, message: &str, number: usize) {
        if self.is_over() || std::mem::take(&mut self.aside) {
            return;
        }
        self.aside = message == "Preemption disabled at:";
        match self.code {
            Code::Unsaid => {}
            Code::Held => self.held(message, number),
            Code::Backtrace if !self.armed => {
                self.armed = message.starts_with("stack backtrace:");
                if let Some(function) = held_at(message) {
                    self.passed_over.get_or_insert((function, number));
                }
            }
            Code::Stack | Code::Frames | Code::Backtrace => self.stack(message, number),
            Code::Sampled => self.sampled(message, number),
        }
    }

    /// The function, and the number of the line that names it.
    pub fn finish(self) -> Option<(String, usize)> {
        self.found.or(self.frame).or(self.passed_over)
    }

    fn take(&mut self, function: String, number: usize) {
        let place = match self.passes_over(&function) {
            true => &mut self.passed_over,
            false => &mut self.found,
        };
        place.get_or_insert((function, number));
    }

    fn passes_over(&self, function: &str) -> bool {
        let waits = self.code == Code::Sampled && is_in(WAITS, function);
        waits || is_in(PASSED_OVER, function)
    }

    fn held(&mut self, message: &str, number: usize) {
        if let Some(function) = held_at(message) {
            self.take(function, number);
        }
    }

    fn stack(&mut self, message: &str, number: usize) {
        self.armed |= is_heading(message);
        let frame = || self.armed.then(|| frame(message)).flatten();
        if let Some(function) = of_work(message)
            .or_else(|| in_registers(message))
            .or_else(frame)
        {
            self.take(function, number);
        }
    }

    fn sampled(&mut self, message: &str, number: usize) {
        self.armed |= is_heading(message);
        if let Some(function) = in_registers(message) {
            return self.take(function, number);
        }
        let frame = self.armed.then(|| frame(message)).flatten();
        if let Some(function) = frame.filter(|function| !self.passes_over(function)) {
            self.frame.get_or_insert((function, number));
        }
    }
}

fn is_heading(message: &str) -> bool {
    let message = message.trim_start();
    message.starts_with("Call Trace:") || message.starts_with("Call trace:")
}

fn is_in(groups: &[&[&str]], function: &str) -> bool {
    let mut groups = groups.iter();
    groups.any(|group| group.iter().any(|pattern| is_like(function, pattern)))
}

/// The function that a title names: `WARNING: … at function+0x1/0x2, …`, `… in function+0x1/0x2`;
/// of KCSAN both, without offsets.
fn of_title(title: &str) -> Option<String> {
    if let Some((_, both)) = title
        .strip_prefix("BUG: KCSAN: ")
        .and_then(|rest| rest.split_once(" in "))
        && both.contains(" / ")
    {
        return Some(both.to_owned());
    }
    title.split([' ', ',']).find_map(symbol)
}

/// The function in RIP or pc. Of a user's there is none.
fn in_registers(message: &str) -> Option<String> {
    let mut rest = REGISTERS
        .iter()
        .find_map(|register| message.strip_prefix(register))?;
    if let Some((selector, after)) = rest.split_once(':')
        && selector.len() == 4
        && let Ok(selector) = u16::from_str_radix(selector, 16)
    {
        if selector & 3 == 3 {
            return None;
        }
        rest = after;
    }
    symbol(without_addresses(rest).split(' ').next()?)
}

/// The function of a frame that the unwinder is sure of: ` function+0x1/0x2 [module]`,
/// ` [<ffffffff81000000>] function+0x1/0x2`, ` function file.c:1 [inline]`.
fn frame(message: &str) -> Option<String> {
    let mut words = without_addresses(message).split(' ');
    let first = words.next()?;
    if let Some(function) = symbol(first) {
        return Some(function);
    }
    let place = words.next()?;
    let is_place = place.contains(".c:") || place.contains(".h:");
    (is_place && message.contains("[inline]") && is_name(first)).then(|| name(first))
}

/// `kernel/workqueue.c: process_one_work()`: whose work it was.
fn of_work(message: &str) -> Option<String> {
    let mut words = ["last function: ", "workfn="].iter();
    let after = words.find_map(|word| Some(message.split_once(word)?.1))?;
    let function = after.split([' ', '+']).next()?;
    is_name(function).then(|| name(function))
}

/// Where a lock was taken.
fn held_at(message: &str) -> Option<String> {
    let (_, at) = message.split_once(", at: ")?;
    symbol(without_addresses(at).split(' ').next()?)
}

/// Without ` <IRQ> ` and `[<ffffffff81000000>] `.
fn without_addresses(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let end = match rest.bytes().next() {
            Some(b'<') => "> ",
            Some(b'[') if rest.starts_with("[<") => ">] ",
            _ => return rest,
        };
        let Some((_, after)) = rest.split_once(end) else {
            return rest;
        };
        rest = after.trim_start();
    }
}

/// `function.isra.0+0x1a/0x30` → `function`.
fn symbol(word: &str) -> Option<String> {
    let (function, offsets) = word.split_once("+0x")?;
    let (offset, size) = offsets.split_once("/0x")?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let size = size.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
    (is_name(function) && is_hex(offset) && is_hex(size)).then(|| name(function))
}

fn is_name(word: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$');
    !word.is_empty() && word.bytes().all(is_part)
}

/// Without what the compiler has added, which differs from build to build.
fn name(function: &str) -> String {
    let function = function.trim();
    let end = function.find('.').filter(|&end| end > 0);
    function[..end.unwrap_or(function.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_frames_of_all_versions_name_a_function() {
        for (line, function) in [
            ("RIP: 0010:shop_price+0x1a/0x30 [shop]", Some("shop_price")),
            (
                "RIP: 0010:[<ffffffff8132aa1d>]  [<ffffffff8132aa1d>] vfs_x+0x1d/0x90",
                Some("vfs_x"),
            ),
            ("RIP: vfs_x+0x1d/0x90 RSP: ffff88003f4b7d28", Some("vfs_x")),
            ("RIP  [<ffffffff8132aa1d>] vfs_x+0x1d/0x90", Some("vfs_x")),
            ("IP: vfs_x.isra.3+0x1d/0x90", Some("vfs_x")),
            ("EIP is at vfs_x+0x1d/0x90", Some("vfs_x")),
            ("pc : shop_price+0x10/0x20 [shop]", Some("shop_price")),
            ("PC is at shop_price+0x10/0x20", Some("shop_price")),
            ("RIP: 0033:0x7f11a2f3ee4d", None),
            ("RIP: 0033:x+0x1/0x2", None),
            ("RIP: 0010:0x0", None),
            ("pc : 0xffff80007a0e5000", None),
            ("lr : shop_price+0x10/0x20", None),
        ] {
            assert_eq!(in_registers(line).as_deref(), function, "{line}");
        }
        for (line, function) in [
            ("ksys_read+0x6f/0xf0", Some("ksys_read")),
            (
                " [<ffffffff81aa01f3>] ksys_read+0x6f/0xf0",
                Some("ksys_read"),
            ),
            (
                " <IRQ>  [<ffffffff81aa01f3>] ksys_read+0x6f/0xf0",
                Some("ksys_read"),
            ),
            ("read_one fs/x.c:12 [inline]", Some("read_one")),
            ("? ksys_read+0x6f/0xf0", None),
            ("[<ffffffff81aa01f3>] ? ksys_read+0x6f/0xf0", None),
            (
                "hardirqs last  enabled at (7): [<ffffffff81aa01f3>] x+0x1/0x2",
                None,
            ),
            ("0xffffffff81aa01f3", None),
            ("<TASK>", None),
            ("x+0x1", None),
        ] {
            assert_eq!(frame(line).as_deref(), function, "{line}");
        }
    }

    #[test]
    fn nothing_is_passed_over_because_its_name_is_near() {
        for function in [
            "lab_new_0_cmdline_proc_show",
            "vfs_read",
            "ksys_read",
            "klp_enable_patch",
            "do_exit",
            "mutation",
            "downgrade",
            "upload",
            "panicky",
            "tcp_sendmsg",
            "kfree_skb",
            "path_openat",
            "atomic_open",
            "klp_ftrace_handler",
            "unwind_next_frame",
            "tick_do_update_jiffies64",
        ] {
            assert!(!is_in(PASSED_OVER, function), "{function}");
        }
        assert!(is_in(WAITS, "tick_nohz_handler") && is_in(PASSED_OVER, "kfree"));
    }
}
