/* SPDX-License-Identifier: GPL-2.0-only */
/* What every livepatch includes. It is compiled once for each kernel. */
#include <linux/kconfig.h>
#include <linux/compiler_types.h>
#include <linux/livepatch.h>
#include <linux/module.h>
