// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions that a splat's registers and frames name although it is not about them. Data.

/// Functions that are found where others are at fault: each group says why. `*` is anything.
pub const PASSED_OVER: &[&str] = &[
    // They write the report.
    "dump_stack* __dump_stack show_stack* show_regs* __show_regs dump_backtrace* panic vpanic \
     nmi_panic die die_addr die_kernel_fault __die* oops_* __warn* warn_slowpath_* report_bug* \
     __report_bug bug_handler brk_handler handle_bug fixup_bug* do_error_trap do_trap* \
     do_invalid_op invalid_op exc_invalid_op asm_exc_* exc_page_fault no_context \
     page_fault_oops print_report print_address_description* end_report kasan_* __kasan_* \
     *_kasan_* __asan_* __hwasan_* check_memory_region* memory_is_poisoned* kcsan_* __tsan_* \
     kmsan_* __msan_* kfence_* __kfence_* ubsan_* __ubsan_* handle_overflow instrument_* \
     debug_print_object debug_object_* __debug_object_* debug_check_no_obj_freed \
     __debug_check_no_obj_freed slab_err slab_bug slab_fix object_err print_trailer \
     check_object check_slab check_bytes_and_report on_freelist slab_pad_check bad_page \
     ftrace_bug bust_spinlocks arm64_serror_panic \
     arm64_notify_die do_serror el1*_64_* el1_* notify_die atomic_notifier_call_chain notifier_call_chain",
    // They check a rule, for a caller that broke it.
    "*might_sleep __might_resched __might_fault might_fault __cant_sleep __cant_migrate \
     __schedule_bug check_preemption_disabled debug_smp_processor_id __this_cpu_preempt_check \
     print_*_bug print_*_report print_bad_irq_dependency check_prev*_add* check_noncircular \
     check_deadlock* check_irq_usage check_usage* check_chain_key \
     check_flags reacquire_held_locks check_wait_context validate_chain* mark_lock* mark_usage \
     mark_held_locks valid_state register_lock_class assign_lock_key look_up_lock_class \
     lock_acquire* __lock_acquire* lock_release* __lock_release* lock_downgrade lockdep_* \
     trace_hardirqs_* __trace_hardirqs_* rcu_lock_* rcu_read_*lock* debug_check_no_locks_* \
     refcount_* __refcount_* kref_* __list_add* __list_del* list_add* list_del* usercopy_* \
     __check_object_size check_heap_object fortify_panic __fortify_panic __fortify_report \
     __stack_chk_fail skb_panic skb_over_panic skb_under_panic work_is_static_object \
     timer_is_static_object timer_fixup_* stub_timer",
    // They take, release or wait for a lock, or sleep.
    "_raw_spin_* __raw_spin_* do_raw_spin_* _raw_read_* _raw_write_* do_raw_* spin_lock* \
     spin_unlock* spin_bug spin_dump rwlock_bug queued_spin_* queued_read_* queued_write_* \
     native_queued_spin_* __pv_queued_spin_* pv_wait* __pv_* kvm_wait mutex_* __mutex_* \
     ww_mutex_* rt_mutex_* __rt_mutex_* rt_spin_* rtlock_* down down_* __down* up up_read \
     up_write rwsem_* __rwsem_* percpu_down_* percpu_rwsem_* __percpu_down_* percpu_up_* \
     schedule schedule_* __schedule* io_schedule* preempt_schedule* context_switch __switch_to* \
     wait_for_completion* __wait_for_common do_wait_for_common wait_for_common bit_wait* \
     __wait_on_bit* out_of_line_wait_* msleep* usleep_range* seqcount_* read_seq* write_seq* \
     osq_lock synchronize_rcu* synchronize_sched* synchronize_srcu __synchronize_srcu \
     __wait_rcu_gp rcu_barrier",
    // They copy, compare, allocate or free for a caller that has the address.
    "memcpy* __memcpy* memmove* __memmove* __pi_mem* memset* __memset* memcmp* __memcmp memchr* \
     strcmp strncmp strlen strnlen strcpy strncpy strlcpy strscpy* sized_strscpy strcat strstr \
     strchr strsep __pi_str* copy_to_user* _copy_to_user copy_from_user* _copy_from_user \
     __copy_user* __arch_copy_* raw_copy_* copy_user_* rep_movs_* rep_stos_* clear_user* \
     get_user* put_user* __get_user* __put_user* _copy_to_iter _copy_from_iter* csum_partial* \
     read_word_at_a_time load_unaligned_zeropad kfree kvfree vfree kfree_sensitive kzfree \
     __kmem_cache_free kmem_cache_free* __slab_free do_slab_free slab_free* \
     free_to_partial_list free_debug_processing free_consistency_checks cache_free_debugcheck \
     __cache_free kmalloc* __kmalloc* __do_kmalloc* kmem_cache_alloc* slab_alloc* ___slab_alloc \
     __slab_alloc* slab_pre_alloc_hook slab_post_alloc_hook alloc_debug_processing krealloc* \
     kstrdup* kmemdup* set_track* save_stack* arch_atomic* raw_atomic* atomic64_* atomic_read* \
     atomic_inc* atomic_dec* atomic_add* atomic_sub* atomic_fetch_* test_bit _test_bit set_bit \
     clear_bit test_and_*_bit _find_next_bit _find_first_bit variable_test_bit \
     constant_test_bit",
];

/// Where a CPU is found that waits, or that is asked where it is: the tick, the NMI, the idle loop.
pub const WAITS: &[&str] = &[
    "nmi_* *trigger_*cpu*_backtrace* arch_trigger_* rcu_dump_* rcu_check_* \
    rcu_sched_clock_irq rcu_pending check_cpu_stall* print_*cpu_stall* update_process_times \
    tick_* __hrtimer_* hrtimer_* *apic_timer_interrupt local_apic_timer_interrupt \
    watchdog_timer_fn watchdog_overflow_callback watchdog_hardlockup_check arch_timer_* \
    handle_percpu_* default_idle* native_safe_halt pv_native_safe_halt arch_cpu_idle \
    cpu_do_idle do_idle cpu_idle_* acpi_*idle* cpuidle_* mwait_idle* cpu_relax delay_* \
    __delay __const_udelay __udelay native_read_tsc smp_call_function_* csd_lock_wait* \
    __csd_lock_wait* sched_show_task dump_cpu_task console_unlock vprintk* _printk printk",
];
