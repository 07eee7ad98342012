/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The glue of a target, a module with functions to livepatch. It makes the folder
 * /sys/kernel/debug/lab-<target> with
 *
 *   <function>  calls the function when it is read, and gives what it returned
 *   .hold       starts a kthread that calls the function whose name is written, and sleeps in it
 *   .release    stops that kthread
 *
 * The module keeps a reference of itself for each function that is held.
 */
#ifndef LAB_TARGET_H
#define LAB_TARGET_H

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>
#include "lab_hold.h"

/*
 * The compiler must not look into a function that gets livepatched: a constant folded into the
 * caller, or two equal functions merged into one, would hide the livepatch.
 */
#define patchable noinline __attribute__((__noipa__))

struct lab_function {
	const char *name;
	int (*call)(void);
	struct task_struct *holder;
	bool left;
};

static DEFINE_MUTEX(lab_mutex);

static int lab_call(void *data, u64 *value)
{
	struct lab_function *function = data;

	*value = function->call();
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(lab_call_fops, lab_call, NULL, "%lld\n");

static int lab_holder(void *data)
{
	struct lab_function *function = data;

	function->call();
	WRITE_ONCE(function->left, true);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static void lab_release_function(struct lab_function *function)
{
	kthread_stop(function->holder);
	function->holder = NULL;
	module_put(THIS_MODULE);
}

/* Returns when the holder sleeps in the function. */
static int lab_hold_function(struct lab_function *function)
{
	struct task_struct *holder;

	if (function->holder)
		return -EBUSY;
	function->left = false;
	holder = kthread_run(lab_holder, function, LAB_HOLDER "/%s", function->name);
	if (IS_ERR(holder))
		return PTR_ERR(holder);
	function->holder = holder;
	__module_get(THIS_MODULE);

	while (READ_ONCE(holder->__state) != TASK_IDLE) {
		if (READ_ONCE(function->left)) {
			/* This version of the function has no lab_hold_point(). */
			lab_release_function(function);
			return -EOPNOTSUPP;
		}
		msleep(1);
	}
	return 0;
}

static ssize_t lab_control(struct file *file, const char __user *user, size_t count, bool hold)
{
	struct lab_function *function;
	char name[160];
	int err = -ENOENT;

	if (count >= sizeof(name))
		return -ENAMETOOLONG;
	if (copy_from_user(name, user, count))
		return -EFAULT;
	name[count] = '\0';

	mutex_lock(&lab_mutex);
	for (function = file_inode(file)->i_private; function->name; function++) {
		if (strcmp(function->name, strim(name)))
			continue;
		err = 0;
		if (hold)
			err = lab_hold_function(function);
		else if (function->holder)
			lab_release_function(function);
		else
			err = -ESRCH;
		break;
	}
	mutex_unlock(&lab_mutex);
	return err ? err : count;
}

static ssize_t lab_hold_write(struct file *file, const char __user *user, size_t count,
			      loff_t *pos)
{
	return lab_control(file, user, count, true);
}

static ssize_t lab_release_write(struct file *file, const char __user *user, size_t count,
				 loff_t *pos)
{
	return lab_control(file, user, count, false);
}

static const struct file_operations lab_hold_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = lab_hold_write,
};

static const struct file_operations lab_release_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = lab_release_write,
};

static struct dentry *lab_dir;

/* The functions end with an entry that has no name. */
static int lab_target_init(const char *target, struct lab_function *functions)
{
	struct lab_function *function;
	char dir[64];

	snprintf(dir, sizeof(dir), "lab-%s", target);
	lab_dir = debugfs_create_dir(dir, NULL);
	if (IS_ERR(lab_dir))
		return PTR_ERR(lab_dir);
	for (function = functions; function->name; function++)
		debugfs_create_file(function->name, 0400, lab_dir, function, &lab_call_fops);
	debugfs_create_file(".hold", 0200, lab_dir, functions, &lab_hold_fops);
	debugfs_create_file(".release", 0200, lab_dir, functions, &lab_release_fops);
	return 0;
}

static void lab_target_exit(void)
{
	debugfs_remove(lab_dir);
}

#endif /* LAB_TARGET_H */
