/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A function that calls lab_hold_point() can be held: the holder, a kthread that the target starts
 * (see target.h), falls asleep there and stays until it is stopped. Everybody else passes.
 *
 * A task that sleeps in a function keeps a transition open that patches or unpatches that function.
 * The holder is known by its name, because livepatches come and go and must not need any symbol of
 * the target.
 */
#ifndef LAB_HOLD_H
#define LAB_HOLD_H

#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/string.h>

#define LAB_HOLDER "lab-hold"

static __always_inline void lab_hold_point(void)
{
	if (likely(!(current->flags & PF_KTHREAD)) || !str_has_prefix(current->comm, LAB_HOLDER))
		return;

	for (;;) {
		/* Not interruptible: livepatching wakes kthreads up that are. */
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
}

#endif /* LAB_HOLD_H */
