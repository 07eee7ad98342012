// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * lab-agent: the lab's hands inside the guest. One process answers all requests of a run over one
 * ssh channel, so that a step costs a round trip and not a login. It is root's shell, since a shell
 * that only starts it would cost a third of the login; it leaves other commands to the real one.
 *
 * Request:  VERB [TAB ARG]... LF          (`put` is followed by its bytes)
 * Reply:    ERRNO SP LENGTH LF BYTES      (ERRNO is 0 or what the system call left)
 *
 * `protocol` answers the version of all this: of the verbs, their arguments and the lines of their
 * replies. The host refuses an agent of another version; see PROTOCOL in src/guest/mod.rs.
 *
 * Static and without any library but libc, because a shell cannot tell the errno of
 * finit_module() and a step must not fork.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL "3"
#define LIVEPATCH "/sys/kernel/livepatch"
#define CALLS "/sys/kernel/debug"
#define CALLS_PREFIX "lab-"
#define MODULES "/lab"
#define TRACING "/sys/kernel/tracing"
#define DYNAMIC_DEBUG "/sys/kernel/debug/dynamic_debug/control"
/* The host refuses longer replies: say less rather than nothing. */
#define REPLY_MAX (1 << 20)
#define POLL_MS 5
#define MOMENT_MS 50
#define PATH_SIZE 4096

static char reply[REPLY_MAX];
static size_t reply_len;
static int kmsg = -1;

static void emit_bytes(const char *data, size_t len)
{
	if (len > REPLY_MAX - reply_len)
		len = REPLY_MAX - reply_len;
	memcpy(reply + reply_len, data, len);
	reply_len += len;
}

__attribute__((format(printf, 1, 2))) static void emit(const char *format, ...)
{
	char line[4096];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (len > 0)
		emit_bytes(line, len < (int)sizeof(line) ? (size_t)len : sizeof(line) - 1);
}

/* Reads a small file into buf, without its last newline. Returns 0 or an errno. */
static int slurp(const char *path, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	buf[0] = '\0';
	if (fd < 0)
		return errno;
	while (used < size - 1 && (n = read(fd, buf + used, size - 1 - used)) > 0)
		used += n;
	err = n < 0 ? errno : 0;
	close(fd);
	buf[used] = '\0';
	if (used && buf[used - 1] == '\n')
		buf[used - 1] = '\0';
	return err;
}

/* An attribute's value; "-" when this kernel does not have it. */
static const char *attribute(const char *dir, const char *name)
{
	static char value[2][256];
	static int turn;
	char path[PATH_SIZE];

	turn ^= 1;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (slurp(path, value[turn], sizeof(value[turn])) || !value[turn][0])
		return "-";
	return value[turn];
}

typedef void (*entry_fn)(const char *dir, const char *name, void *arg);

static void for_each_entry(const char *dir, int dirs_only, entry_fn fn, void *arg)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, NULL, alphasort), i;

	for (i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;

		if (name[0] != '.' && (!dirs_only || entries[i]->d_type == DT_DIR))
			fn(dir, name, arg);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

/* ---- state ---------------------------------------------------------------------------------- */

static void dump_function(const char *dir, const char *name, void *arg)
{
	(void)dir;
	(void)arg;
	emit("function\t%s\n", name);
}

static void dump_object(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	(void)arg;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	emit("object\t%s\t%s\n", name, attribute(path, "patched"));
	for_each_entry(path, 1, dump_function, NULL);
}

static void dump_livepatch(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	(void)arg;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	emit("livepatch\t%s\t%s", name, attribute(path, "enabled"));
	emit("\t%s", attribute(path, "transition"));
	emit("\t%s", attribute(path, "replace"));
	emit("\t%s\n", attribute(path, "stack_order"));
	for_each_entry(path, 1, dump_object, NULL);
}

static void dump_call(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE], value[256];
	int err;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	err = slurp(path, value, sizeof(value));
	if (err)
		emit("call\t%s\t%s\terrno %d\n", (const char *)arg, name, err);
	else
		emit("call\t%s\t%s\t%s\n", (const char *)arg, name, value);
}

static void dump_calls(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	(void)arg;
	if (strncmp(name, CALLS_PREFIX, strlen(CALLS_PREFIX)))
		return;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for_each_entry(path, 0, dump_call, (void *)(name + strlen(CALLS_PREFIX)));
}

static void dump_lines(const char *kind, const char *path, const char *needle)
{
	FILE *file = fopen(path, "re");
	char line[2048];

	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (!needle || strstr(line, needle))
			emit("%s\t%s\n", kind, line);
	}
	fclose(file);
}

/*
 * A message without its newline may go on, and nobody can read it until the next one begins. This is
 * that one: a debug message, which does not go to the console. The host knows it by its text
 * (src/vm/kernel_log.rs).
 */
static void end_last_message(void)
{
	static const char mark[] = "<7>lab: the log has been read as far as this\n";
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	/* Without it, what is unfinished is read later. */
	if (write(fd, mark, sizeof(mark) - 1) < 0)
		errno = 0;
	close(fd);
}

/*
 * The kernel log since the last call, debug messages too: a record "priority,sequence,time,flags;text"
 * of /dev/kmsg is a line with a tab in place of the semicolon.
 */
static void dump_log(void)
{
	char record[8192];
	ssize_t n;

	end_last_message();
	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	for (;;) {
		char *text;

		n = read(kmsg, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE) {
			emit("log-lost\t\n");
			continue;
		}
		if (n <= 0)
			return;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text)
			continue;
		*text++ = '\0';
		text[strcspn(text, "\n")] = '\0';
		/* Its text is longer than emit() takes where much of it is escaped. */
		emit("kmsg\t%s\t", record);
		emit_bytes(text, strlen(text));
		emit_bytes("\n", 1);
	}
}

/* Each function once that the function tracer has seen: "task-1 [000] ..... 1.2: show <-read". */
static void dump_traced(void)
{
	static char seen[64][128];
	FILE *file;
	char line[2048];
	int count = 0, i;

	if (strcmp(attribute(TRACING, "current_tracer"), "function"))
		return;
	file = fopen(TRACING "/trace", "re");
	if (!file)
		return;
	while (count < 64 && fgets(line, sizeof(line), file)) {
		char *end = strstr(line, " <-"), *start;

		if (!end || line[0] == '#')
			continue;
		*end = '\0';
		start = strrchr(line, ' ');
		start = start ? start + 1 : line;
		for (i = 0; i < count && strcmp(seen[i], start); i++)
			;
		if (i < count || strlen(start) >= sizeof(seen[0]))
			continue;
		strcpy(seen[count++], start);
		emit("traced\t%s\n", start);
	}
	fclose(file);
}

/* What is free on the disk. Without blocks it has no limit but the memory. */
static void dump_disk(void)
{
	struct statvfs disk;

	if (!statvfs("/", &disk) && disk.f_blocks)
		emit("disk\t%llu\n", (unsigned long long)disk.f_bavail * disk.f_frsize);
}

static int do_state(void)
{
	/* First, since a reply that is too long loses its end. */
	emit("tainted\t%s\n", attribute("/proc/sys/kernel", "tainted"));
	dump_disk();
	for_each_entry(LIVEPATCH, 1, dump_livepatch, NULL);
	dump_lines("module", "/proc/modules", NULL);
	for_each_entry(CALLS, 1, dump_calls, NULL);
	dump_lines("ftrace", "/sys/kernel/tracing/enabled_functions", "klp_ftrace_handler");
	dump_traced();
	dump_log();
	return 0;
}

static int do_log(void)
{
	dump_log();
	return 0;
}

static void dump_name(const char *dir, const char *name, void *arg)
{
	(void)dir;
	emit("%s %s\n", (const char *)arg, name);
}

/*
 * What a scenario can leave behind. A guest that says the same as before it can play another one.
 * Enabled pr_debug()s of livepatching end in "=p" or more, disabled ones in "=_".
 */
static int do_settings(void)
{
	const char *tracing[] = { "current_tracer", "tracing_on", "set_ftrace_filter" };
	struct timespec clock, since_boot;
	FILE *file;
	char line[2048];
	size_t i;

	for_each_entry(LIVEPATCH, 1, dump_name, "livepatch");
	file = fopen("/proc/modules", "re");
	while (file && fgets(line, sizeof(line), file))
		emit("module %.*s\n", (int)strcspn(line, " \n"), line);
	if (file)
		fclose(file);
	for (i = 0; i < sizeof(tracing) / sizeof(*tracing); i++)
		emit("%s %s\n", tracing[i], attribute(TRACING, tracing[i]));
	emit("kprobes %s\n", attribute("/sys/kernel/debug/kprobes", "enabled"));
	emit("ftrace_enabled %s\n", attribute("/proc/sys/kernel", "ftrace_enabled"));
	emit("printk %s\n", attribute("/proc/sys/kernel", "printk"));
	dump_disk();
	file = fopen(DYNAMIC_DEBUG, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "kernel/livepatch", 16) && !strstr(line, " =_ "))
			emit("pr_debug %.*s\n", (int)strcspn(line, " "), line);
	if (file)
		fclose(file);
	/* lockdep turns itself off at its first complaint, which it may say to nobody. */
	file = fopen("/proc/lockdep_stats", "re");
	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, "debug_locks:"))
			emit("%s", line);
	if (file)
		fclose(file);
	clock_gettime(CLOCK_REALTIME, &clock);
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	/* Constant but for a few microseconds, unless somebody sets the clock. */
	emit("booted at %lld0 s\n",
	     ((clock.tv_sec - since_boot.tv_sec) * 1000LL +
	      (clock.tv_nsec - since_boot.tv_nsec) / 1000000) / 10000);
	emit("children %s\n", waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD ? "no" : "yes");
	return 0;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void unsettled_livepatch(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (strcmp(attribute(path, "transition"), "0"))
		snprintf(arg, 512, "transition\t%s", name);
	/*
	 * Disabled and not in transition: its directory is about to go, klp_free_patch_work_fn().
	 * The attributes go first.
	 */
	else if (!((char *)arg)[0] && strcmp(attribute(path, "enabled"), "1"))
		snprintf(arg, 512, "free\t%s", name);
}

static void unsettled_module(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE], sysfs[PATH_SIZE];

	if (((char *)arg)[0])
		return;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(sysfs, sizeof(sysfs), LIVEPATCH "/%s", name);
	/* TAINT_LIVEPATCH, and no longer registered: the reference goes last of all. */
	if (strchr(attribute(path, "taint"), 'K') && access(sysfs, F_OK) &&
	    strcmp(attribute(path, "refcnt"), "0"))
		snprintf(arg, 512, "reference\t%s", name);
}

/* A look around takes long on an emulated CPU: time is measured, not added up from the pauses. */
static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	const struct timespec pause = { .tv_nsec = ms * 1000000L };

	nanosleep(&pause, NULL);
}

/*
 * Waits until no livepatch is in transition or being freed. What stays unsettled is named in the
 * reply: "transition NAME", "free NAME" or "reference NAME" (a forced livepatch keeps its
 * reference for good, so that one is waited for only briefly).
 */
static int do_settle(long timeout_ms)
{
	long started = now_ms(), reference_since = 0;
	char what[512];

	for (;; pause_ms(POLL_MS)) {
		long now = now_ms();

		what[0] = '\0';
		for_each_entry(LIVEPATCH, 1, unsettled_livepatch, what);
		for_each_entry("/sys/module", 1, unsettled_module, what);
		if (!what[0])
			return 0;
		if (strncmp(what, "reference", 9))
			reference_since = 0;
		else if (!reference_since)
			reference_since = now;
		else if (now - reference_since > 500)
			break;
		if (now - started >= timeout_ms)
			break;
	}
	emit("%s", what);
	return ETIMEDOUT;
}

/* ---- what is pending in modules -------------------------------------------------------------- */

/*
 * A timer or an RCU callback of a module that is gone is an oops to come. The kernel's own lists of
 * them are read through /proc/kcore: the timer wheels and the hrtimers of each CPU, and its RCU
 * callbacks. The layout of their entries has been the same for years: the links come first. What is
 * taken for an entry and is none costs some waiting, and nothing else.
 */

/* Lines of System.map with the symbols below, each with the line after it. From the host. */
#define SYMBOLS "/lab/symbols"
#define KALLSYMS "/proc/kallsyms"
#define KCORE "/proc/kcore"
#define ENTRIES_MAX 1024
#define SEGMENTS_MAX 64
/* A stack is aligned to its size. */
#define STACK_SIZE 16384UL
#define LOOK_MS 50
#define CLEAR_LOOKS 4
#define CLEAR_MS 3

static struct symbol {
	const char *name;
	/* The next symbol's address ends it. */
	unsigned long address, end;
} symbols[] = {
	{ .name = "_text" },
	{ .name = "_end" },
	{ .name = "__per_cpu_offset" },
	{ .name = "process_timeout" },
	{ .name = "hrtimer_wakeup" },
	{ .name = "timer_bases" },
	{ .name = "hrtimer_bases" },
	{ .name = "rcu_data" },
};
enum { TEXT, END, PER_CPU_OFFSET, PROCESS_TIMEOUT, HRTIMER_WAKEUP, TIMERS, HRTIMERS, CALLBACKS };

/* How the entries of a list look, in words from the entry's address. */
static const struct list {
	int symbol;
	const char *what;
	/* Where a module's address can be: a delayed work's function is in front of its timer. */
	int from, to;
	/* The links that are followed. */
	int first_link, last_link;
} lists[] = {
	/* struct timer_list { struct hlist_node entry; expires; function; … } */
	{ TIMERS, "timer", -5, 5, 0, 0 },
	/* struct hrtimer { struct rb_node … } */
	{ HRTIMERS, "hrtimer", 0, 14, 1, 2 },
	/* struct callback_head { next; func; } */
	{ CALLBACKS, "RCU callback", 0, 2, 0, 0 },
};

static struct segment {
	unsigned long address, size;
	off_t offset;
} segments[SEGMENTS_MAX];
static int segment_count;
static int kcore = -1;

/* Finds the symbols among lines "ADDRESS TYPE NAME" that are in the order of the addresses. */
static void read_symbols(const char *path, int text_only)
{
	const size_t count = sizeof(symbols) / sizeof(*symbols);
	FILE *file = fopen(path, "re");
	char line[1024], name[512];
	unsigned long address;
	size_t i;

	for (i = 0; i < count; i++)
		symbols[i].address = symbols[i].end = 0;
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %*c %511s", &address, name) != 2)
			continue;
		for (i = 0; i < count; i++) {
			struct symbol *symbol = &symbols[i];

			if (!symbol->address && !strcmp(symbol->name, name))
				symbol->address = address;
			else if (symbol->address && !symbol->end && address > symbol->address)
				symbol->end = address;
		}
		if (text_only && symbols[TEXT].address)
			break;
	}
	if (file)
		fclose(file);
}

/* Of the host's symbols, if the kernel is where they say; else of the kernel's own. */
static int find_symbols(void)
{
	static int are_found;
	unsigned long text;

	if (are_found)
		return 0;
	read_symbols(KALLSYMS, 1);
	text = symbols[TEXT].address;
	read_symbols(SYMBOLS, 0);
	if (!symbols[TIMERS].end || symbols[TEXT].address != text)
		read_symbols(KALLSYMS, 0);
	are_found = symbols[TIMERS].end && symbols[END].address;
	return are_found ? 0 : ENOENT;
}

static int open_kcore(void)
{
	Elf64_Ehdr header;
	Elf64_Phdr entry;
	int i;

	if (kcore >= 0)
		return 0;
	kcore = open(KCORE, O_RDONLY | O_CLOEXEC);
	if (kcore < 0)
		return errno;
	if (pread(kcore, &header, sizeof(header), 0) != sizeof(header))
		return EIO;
	for (i = 0; i < header.e_phnum && segment_count < SEGMENTS_MAX; i++) {
		off_t at = header.e_phoff + (off_t)i * sizeof(entry);

		if (pread(kcore, &entry, sizeof(entry), at) != sizeof(entry))
			return EIO;
		if (entry.p_type == PT_LOAD)
			segments[segment_count++] = (struct segment){
				entry.p_vaddr, entry.p_memsz, entry.p_offset
			};
	}
	return 0;
}

/* Reads kernel memory; what is not there is zero. */
static void peek(unsigned long address, void *buf, size_t len)
{
	int i;

	memset(buf, 0, len);
	for (i = 0; i < segment_count; i++) {
		const struct segment *segment = &segments[i];
		unsigned long in = address - segment->address;

		if (address < segment->address || in >= segment->size)
			continue;
		if (len > segment->size - in)
			len = segment->size - in;
		if (pread(kcore, buf, len, segment->offset + (off_t)in) < 0)
			memset(buf, 0, len);
		return;
	}
}

/* Whether it is an address of memory that modules are put into, those that are gone too. */
static int is_of_modules(unsigned long word)
{
	const unsigned long text = symbols[TEXT].address, end = symbols[END].address;

#ifdef __x86_64__
	(void)text;
	return word >= end && word < 0xffffffffff000000UL;
#else
	/* Below the kernel; around it if its place is random (arm64: module_init_limits()). */
	if (text == 0xffff800080000000UL)
		return word < text && word >= end - (2UL << 30);
	return (word < text || word >= end) && word - (text - (128UL << 20)) < (256UL << 20);
#endif
}

static int can_be_entry(unsigned long word)
{
	return (long)word < 0 && !(word & 7) && word < -4096UL;
}

/* The kernel's own entries have no module's address, but others behind them in their lists. */
static int is_of_kernel(unsigned long word)
{
	return word >= symbols[TEXT].address && word < symbols[END].address;
}

/* A module's address in the frames of the task whose timer is on its own stack at `timer`. */
static unsigned long in_stack(unsigned long timer)
{
	static unsigned long words[STACK_SIZE / sizeof(long)];
	size_t len = STACK_SIZE - (timer & (STACK_SIZE - 1)), i;

	peek(timer, words, len);
	for (i = 0; i < len / sizeof(long); i++)
		if (is_of_modules(words[i]))
			return words[i];
	return 0;
}

/* The module's address that an entry of a list has to do with, or 0. Adds what it links to. */
static unsigned long look_at(const struct list *list, unsigned long entry, unsigned long *next,
			     int *count)
{
	unsigned long words[24], found = is_of_modules(entry) ? entry : 0;
	int i, sleeps = 0;

	peek(entry + list->from * (long)sizeof(long), words,
	     (list->to - list->from) * sizeof(long));
	for (i = list->from; i < list->to; i++) {
		unsigned long word = words[i - list->from];

		if (!found && is_of_modules(word))
			found = word;
		if (word && i >= 0 && (word == symbols[PROCESS_TIMEOUT].address ||
				       word == symbols[HRTIMER_WAKEUP].address))
			sleeps = 1;
		if (i >= list->first_link && i <= list->last_link && can_be_entry(word) &&
		    *count < ENTRIES_MAX)
			next[(*count)++] = word;
	}
	if (is_of_kernel(entry))
		return 0;
	return found || !sleeps ? found : in_stack(entry);
}

/* Names the entries of a list of one CPU that have to do with modules. */
static void look_through(const struct list *list, unsigned long per_cpu)
{
	static unsigned long next[ENTRIES_MAX], seen[ENTRIES_MAX], head[65536 / sizeof(long)];
	const struct symbol *symbol = &symbols[list->symbol];
	size_t len = symbol->end - symbol->address, i;
	int count = 0, known = 0, j;

	if (!symbol->end)
		return;
	if (len > sizeof(head))
		len = sizeof(head);
	peek(symbol->address + per_cpu, head, len);
	for (i = 0; i < len / sizeof(long) && count < ENTRIES_MAX; i++)
		if (can_be_entry(head[i]))
			next[count++] = head[i];
	while (count) {
		unsigned long entry = next[--count], found;

		for (j = 0; j < known && seen[j] != entry; j++)
			;
		if (j < known)
			continue;
		if (known == ENTRIES_MAX)
			break;
		seen[known++] = entry;
		found = look_at(list, entry, next, &count);
		if (found)
			emit("%s\t%#lx\n", list->what, found);
	}
}

static int look_for_pending(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF), cpu;
	int err = find_symbols();
	size_t i;

	if (!err)
		err = open_kcore();
	if (err)
		return err;
	for (cpu = 0; cpu < cpus; cpu++) {
		unsigned long per_cpu = 0;

		if (symbols[PER_CPU_OFFSET].address)
			peek(symbols[PER_CPU_OFFSET].address + cpu * sizeof(long), &per_cpu,
			     sizeof(per_cpu));
		for (i = 0; i < sizeof(lists) / sizeof(*lists); i++)
			look_through(&lists[i], per_cpu);
	}
	return 0;
}

/*
 * Waits as long as something is pending in modules, and says what still is. A guest that cannot
 * tell waits for `blind_ms`. Looks are counted, not milliseconds: the clock of a guest that got no
 * time goes on, and its timers are not handled before the agent looks. Lists change while they are
 * read, and a part of one may be missed: nothing is pending if several looks say so.
 */
static int do_quiet(long limit_ms, long blind_ms)
{
	long waited = 0, clear = 0;

	for (;;) {
		int err;

		reply_len = 0;
		err = look_for_pending();
		if (err && waited >= blind_ms)
			return err;
		if (!err && !reply_len) {
			if (++clear == CLEAR_LOOKS)
				return 0;
			pause_ms(CLEAR_MS);
			continue;
		}
		if (!err && waited >= limit_ms)
			return ETIMEDOUT;
		clear = 0;
		waited += LOOK_MS;
		pause_ms(LOOK_MS);
	}
}

/* ---- tasks that hold a transition open ------------------------------------------------------ */

/* Kthreads that sit in a function on purpose; see the lab's hold.h. */
#define HOLDER "lab-hold"

static int target_state;
/* Instead of the holders: whoever is in this function. */
static const char *held_in = "";

static int is_held(const char *task, const char *comm)
{
	char path[PATH_SIZE], stack[8192], frame[160];

	if (!held_in[0])
		return !strncmp(comm, HOLDER, strlen(HOLDER));
	snprintf(path, sizeof(path), "%s/stack", task);
	snprintf(frame, sizeof(frame), " %s+0x", held_in);
	return !slurp(path, stack, sizeof(stack)) && strstr(stack, frame);
}

/* Tasks of the lab's own that another session may have for a moment; see begin_hammering(). */
#define HAMMER "lab-hammer"

struct blockers {
	int say;
	int all;
	int held;
	int others;
};

/* R, S, D and so on: the field after the name, which may hold anything. */
static char scheduler_state(const char *task)
{
	char path[PATH_SIZE], stat[1024], *name_end;

	snprintf(path, sizeof(path), "%s/stat", task);
	if (slurp(path, stat, sizeof(stat)))
		return '?';
	name_end = strrchr(stat, ')');
	return name_end && name_end[1] == ' ' ? name_end[2] : '?';
}

static void visit_task(const char *dir, const char *tid, void *arg)
{
	char path[PATH_SIZE], comm[64], stack[8192];
	struct blockers *blockers = arg;
	int state;

	snprintf(path, sizeof(path), "%s/%s", dir, tid);
	blockers->all++;
	state = atoi(attribute(path, "patch_state"));
	if (state < 0 || state == target_state)
		return;
	snprintf(comm, sizeof(comm), "%s", attribute(path, "comm"));
	if (!strcmp(comm, HAMMER))
		return;
	if (is_held(path, comm))
		blockers->held++;
	else
		blockers->others++;
	if (!blockers->say)
		return;
	emit("task\t%s\t%c\t%d\t%s\n", tid, scheduler_state(path), state, comm);
	snprintf(path, sizeof(path), "%s/%s/stack", dir, tid);
	if (!slurp(path, stack, sizeof(stack)))
		emit("%s\n", stack);
}

static void visit_process(const char *dir, const char *pid, void *arg)
{
	char path[PATH_SIZE];

	if (!isdigit((unsigned char)pid[0]))
		return;
	snprintf(path, sizeof(path), "%s/%s/task", dir, pid);
	for_each_entry(path, 1, visit_task, arg);
}

static void transition_target(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!strcmp(attribute(path, "transition"), "1"))
		*(int *)arg = !strcmp(attribute(path, "enabled"), "1");
}

/* Visits each task that is not yet in the transition's target state. Returns 0 without one. */
static int visit_blockers(struct blockers *blockers)
{
	target_state = -1;
	for_each_entry(LIVEPATCH, 1, transition_target, &target_state);
	if (target_state < 0)
		return 0;
	for_each_entry("/proc", 1, visit_process, blockers);
	return 1;
}

static void dump_patched_function(const char *dir, const char *name, void *arg)
{
	const char *object = strrchr(dir, '/');

	(void)arg;
	emit("function\t%s\t%s\n", object ? object + 1 : dir, name);
}

static void dump_patched_object(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for_each_entry(path, 1, dump_patched_function, arg);
}

static void dump_transition(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (strcmp(attribute(path, "transition"), "1"))
		return;
	emit("transition\t%s\t%s\n", name, attribute(path, "enabled"));
	for_each_entry(path, 1, dump_patched_object, arg);
}

/*
 * The transition: the livepatch and the state that it leads to, its functions, each task whose
 * /proc/<pid>/patch_state is not yet that one with its stack, and the number of all tasks.
 */
static int do_blocked(void)
{
	struct blockers blockers = { .say = 1 };

	for_each_entry(LIVEPATCH, 1, dump_transition, NULL);
	visit_blockers(&blockers);
	emit("tasks\t%d\n", blockers.all);
	return 0;
}

/*
 * Waits until only held tasks keep a transition open. ENOENT when there is no transition (any
 * more): nothing holds it.
 */
static int do_held(long timeout_ms, const char *function)
{
	long started = now_ms();

	held_in = function;
	for (;; pause_ms(POLL_MS)) {
		struct blockers blockers = { 0 };

		if (!visit_blockers(&blockers))
			return ENOENT;
		if (blockers.held && !blockers.others)
			return 0;
		if (now_ms() - started >= timeout_ms)
			return ETIMEDOUT;
	}
}

/* ---- transitions without the second --------------------------------------------------------- */

/*
 * The first try of a transition, klp_try_complete_transition(), cannot switch a task that runs. On
 * a CPU with nothing to do that is the idle task, and the next try is a second later. So while a call
 * that begins a transition is under way, a task of the lab's runs on each other CPU in the idle task's
 * place. It goes in and out of the kernel, and is switched on its way out, before the try.
 *
 * It holds nothing up: no system call has its number, so it never sleeps in the kernel. It is gone
 * before the reply. With one CPU there is none.
 */
static pid_t hammers[CPU_SETSIZE];
static int hammer_count;
static cpu_set_t usual_cpus;
/* How long they may take to be on their CPUs. Without that, the first try is as it was. */
#define HAMMERS_READY_MS 50

/* An emulated CPU hands over to the next one here; else one would wait while another only waits. */
static void relax(void)
{
#if defined(__x86_64__)
	__asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

__attribute__((noreturn)) static void hammer(pid_t agent, int cpu, long limit_ms, volatile char *ready)
{
	const struct itimerval limit = {
		.it_value = { .tv_sec = limit_ms / 1000, .tv_usec = limit_ms % 1000 * 1000 },
	};
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != agent)
		_exit(0);
	prctl(PR_SET_NAME, HAMMER);
	/* A call that takes long, as one whose callbacks sleep, must not keep all CPUs busy. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGALRM, SIG_DFL);
	setitimer(ITIMER_REAL, &limit, NULL);
	while (sched_getcpu() != cpu)
		relax();
	for (*ready = 1;; relax())
		syscall(-1);
}

/* Bounds the hammers by `limit_ms`; 0 is the kernel's own pace. */
static void begin_hammering(long limit_ms)
{
	static volatile char *ready;
	int here = sched_getcpu(), cpu, i;
	pid_t agent = getpid();
	long started;
	cpu_set_t one;

	hammer_count = 0;
	if (limit_ms <= 0 || here < 0 || sched_getaffinity(0, sizeof(usual_cpus), &usual_cpus) ||
	    CPU_COUNT(&usual_cpus) < 2)
		return;
	if (!ready)
		ready = mmap(NULL, CPU_SETSIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			     0);
	if (ready == MAP_FAILED) {
		ready = NULL;
		return;
	}
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		volatile char *flag = &ready[hammer_count];
		pid_t pid;

		if (cpu == here || !CPU_ISSET(cpu, &usual_cpus))
			continue;
		*flag = 0;
		pid = fork();
		if (!pid)
			hammer(agent, cpu, limit_ms, flag);
		if (pid < 0)
			break;
		hammers[hammer_count++] = pid;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(pid, sizeof(one), &one);
	}
	/* The call would leave an idle CPU behind if it moved to another one. */
	CPU_ZERO(&one);
	CPU_SET(here, &one);
	sched_setaffinity(0, sizeof(one), &one);
	started = now_ms();
	for (i = 0; i < hammer_count; i++)
		while (!ready[i] && now_ms() - started < HAMMERS_READY_MS) {
			relax();
			sched_yield();
		}
}

static void end_hammering(void)
{
	int i;

	if (!hammer_count)
		return;
	for (i = 0; i < hammer_count; i++)
		kill(hammers[i], SIGKILL);
	for (i = 0; i < hammer_count; i++)
		waitpid(hammers[i], NULL, 0);
	/* A CPU that is offline now is not among the usual ones, and must not be lost for later. */
	if (CPU_COUNT(&usual_cpus) == sysconf(_SC_NPROCESSORS_ONLN))
		memset(&usual_cpus, 0xff, sizeof(usual_cpus));
	sched_setaffinity(0, sizeof(usual_cpus), &usual_cpus);
	hammer_count = 0;
}

/* ---- modules and files ---------------------------------------------------------------------- */

/* What a load or a write starts has had its first try when the system call returns. */
static int do_load(const char *path, const char *params, long hammer_ms)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	begin_hammering(hammer_ms);
	if (syscall(SYS_finit_module, fd, params, 0))
		err = errno;
	end_hammering();
	close(fd);
	return err;
}

static int do_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0;
}

static int do_read(const char *path)
{
	static char data[65536];
	int err = slurp(path, data, sizeof(data));

	emit_bytes(data, strlen(data));
	return err;
}

static int do_write(const char *path, const char *data)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, data, strlen(data)) < 0)
		err = errno;
	if (close(fd) && !err)
		err = errno;
	return err;
}

/* Writes an attribute that starts a transition. */
static int do_switch(const char *path, const char *data, long hammer_ms)
{
	int err;

	begin_hammering(hammer_ms);
	err = do_write(path, data);
	end_hammering();
	return err;
}

/*
 * Puts a line into the kernel log, as an emergency: a scenario may have asked for silence. Without
 * its newline, a record is not printed before the next one.
 */
/* What a step has left for the next ticks (deferred work, timers) happens before that is said. */
static int do_say(const char *text)
{
	char line[512];

	pause_ms(MOMENT_MS);
	snprintf(line, sizeof(line), "<0>%s\n", text);
	return do_write("/dev/kmsg", line);
}

static int do_put(const char *path, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), err = fd < 0 ? errno : 0;
	char block[65536];

	while (len) {
		size_t n = fread(block, 1, len < sizeof(block) ? len : sizeof(block), stdin);

		if (!n)
			exit(1);
		if (!err && write(fd, block, n) != (ssize_t)n)
			err = errno ? errno : ENOSPC;
		len -= n;
	}
	if (fd >= 0 && close(fd) && !err)
		err = errno;
	return err;
}

/* Overwrites what the file held: filters of ftrace are added to otherwise. */
static int overwrite(const char *path, const char *data)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	if (data[0] && write(fd, data, strlen(data)) < 0)
		err = errno;
	if (close(fd) && !err)
		err = errno;
	return err;
}

/* Traces one function, or with "" stops and forgets. The filter comes first: never trace all. */
static int do_trace(const char *function)
{
	int err = overwrite(TRACING "/tracing_on", function[0] ? "0" : "1");

	if (!err)
		err = overwrite(TRACING "/current_tracer", "nop");
	if (!err)
		err = overwrite(TRACING "/trace", "");
	if (!err)
		err = overwrite(TRACING "/set_ftrace_filter", function);
	if (!err && function[0])
		err = overwrite(TRACING "/current_tracer", "function");
	if (!err && function[0])
		err = overwrite(TRACING "/tracing_on", "1");
	return err;
}

/* The rights of a file as ls(1) shows them. */
static int do_stat(const char *path)
{
	const char kinds[] = "?pc?d?b?-?l?s???", rights[] = "rwxrwxrwx";
	struct stat data;
	char text[11];
	int i;

	if (lstat(path, &data))
		return errno;
	text[0] = kinds[(data.st_mode & S_IFMT) >> 12];
	for (i = 0; i < 9; i++)
		text[1 + i] = data.st_mode & (0400 >> i) ? rights[i] : '-';
	text[10] = '\0';
	if (data.st_mode & S_ISUID)
		text[3] = text[3] == 'x' ? 's' : 'S';
	if (data.st_mode & S_ISGID)
		text[6] = text[6] == 'x' ? 's' : 'S';
	if (data.st_mode & S_ISVTX)
		text[9] = text[9] == 'x' ? 't' : 'T';
	emit("%s", text);
	return 0;
}

/* ---- processes ------------------------------------------------------------------------------ */

#define GROUP_MAX 64

static struct group {
	char name[64];
	pid_t pids[GROUP_MAX];
	int count;
} groups[8];

static struct group *group_of(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		if (!strcmp(groups[i].name, name))
			return &groups[i];
	return NULL;
}

/* Starts processes that make a system call over and over; they go with the agent. */
static int do_spawn(const char *name, const char *hammer, long count)
{
	struct group *group = group_of("");
	int i;

	if (strcmp(hammer, "getpid"))
		return EINVAL;
	if (!group)
		return ENOSPC;
	if (count <= 0)
		count = sysconf(_SC_NPROCESSORS_ONLN);
	if (count > GROUP_MAX)
		count = GROUP_MAX;
	for (group->count = 0; group->count < count; group->count++) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				syscall(SYS_getpid);
		}
		group->pids[group->count] = pid;
	}
	snprintf(group->name, sizeof(group->name), "%s", name);
	for (i = 0; i < group->count; i++)
		emit("%s%d", i ? "," : "", group->pids[i]);
	return group->count == count ? 0 : EAGAIN;
}

/* Ends the processes of a group and waits for each. */
static int do_kill(const char *name)
{
	struct group *group = name[0] ? group_of(name) : NULL;
	int i;

	if (!group)
		return ESRCH;
	for (i = 0; i < group->count; i++)
		kill(group->pids[i], SIGTERM);
	for (i = 0; i < group->count; i++)
		waitpid(group->pids[i], NULL, 0);
	group->name[0] = '\0';
	return 0;
}

static void remove_module(const char *dir, const char *name, void *arg)
{
	char path[PATH_SIZE];

	(void)arg;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

/* Takes back what a run put here, and says what else it has left behind. */
static int do_tidy(const char *messages_off, const char *messages_on)
{
	for_each_entry(MODULES, 0, remove_module, NULL);
	overwrite(DYNAMIC_DEBUG, messages_off);
	overwrite(DYNAMIC_DEBUG, messages_on);
	return do_settings();
}

/* What a command writes to a file, or says, is kept in memory. */
#define COMMAND_FILE_MAX (32 << 20)

/*
 * Runs a command of the shell in a folder. The reply begins with a line `exit N`, `signal N` or
 * `timeout`; its output follows. What the command started ends with it.
 */
static int do_exec(long limit_ms, const char *dir, const char *command)
{
	const struct rlimit files = { COMMAND_FILE_MAX, COMMAND_FILE_MAX };
	char name[] = "/tmp/lab-exec-XXXXXX", block[4096];
	int out = mkostemp(name, O_CLOEXEC), status = 0;
	long deadline = now_ms() + limit_ms;
	pid_t pid, ended;
	ssize_t n;

	if (out < 0)
		return errno;
	unlink(name);
	pid = fork();
	if (pid < 0) {
		close(out);
		return EAGAIN;
	}
	if (!pid) {
		setsid();
		setrlimit(RLIMIT_FSIZE, &files);
		setenv("PATH", "/usr/sbin:/usr/bin", 1);
		if (chdir(dir) || dup2(open("/dev/null", O_RDONLY), 0) < 0 || dup2(out, 1) < 0 ||
		    dup2(out, 2) < 0)
			_exit(126);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	while (!(ended = waitpid(pid, &status, WNOHANG)) && now_ms() < deadline)
		usleep(POLL_MS * 1000);
	kill(-pid, SIGKILL);
	if (!ended) {
		waitpid(pid, &status, 0);
		emit("timeout\n");
	} else if (WIFEXITED(status)) {
		emit("exit %d\n", WEXITSTATUS(status));
	} else {
		emit("signal %d\n", WTERMSIG(status));
	}
	lseek(out, 0, SEEK_SET);
	while ((n = read(out, block, sizeof(block))) > 0)
		emit_bytes(block, (size_t)n);
	close(out);
	return 0;
}

static int do_protocol(void)
{
	emit("%s", PROTOCOL);
	return 0;
}

static int do_release(void)
{
	struct utsname name;

	if (uname(&name))
		return errno;
	emit("%s", name.release);
	return 0;
}

/* What somebody wants who logs in, as login(1) and sshd(8) call a shell. */
static void be_a_shell(char **words)
{
	if (words[0] && words[1] && !strcmp(words[0], "-c") && !strcmp(words[1], "lab-agent"))
		return;
	if (words[0])
		execl("/bin/sh", "sh", words[0], words[1], (char *)NULL);
	else
		execl("/bin/sh", "-sh", (char *)NULL);
	exit(127);
}

int main(int count, char **words)
{
	static char line[65536];
	char *argv[4];

	(void)count;
	be_a_shell(words + 1);
	while (fgets(line, sizeof(line), stdin)) {
		char *rest = line;
		int argc, err;

		line[strcspn(line, "\n")] = '\0';
		for (argc = 0; argc < 4; argc++)
			argv[argc] = rest ? strsep(&rest, "\t") : "";
		reply_len = 0;
		if (!strcmp(argv[0], "protocol"))
			err = do_protocol();
		else if (!strcmp(argv[0], "release"))
			err = do_release();
		else if (!strcmp(argv[0], "put"))
			err = do_put(argv[1], strtoul(argv[2], NULL, 10));
		else if (!strcmp(argv[0], "load"))
			err = do_load(argv[1], argv[2], strtol(argv[3], NULL, 10));
		else if (!strcmp(argv[0], "unload"))
			err = do_unload(argv[1]);
		else if (!strcmp(argv[0], "read"))
			err = do_read(argv[1]);
		else if (!strcmp(argv[0], "say"))
			err = do_say(argv[1]);
		else if (!strcmp(argv[0], "write"))
			err = do_write(argv[1], argv[2]);
		else if (!strcmp(argv[0], "switch"))
			err = do_switch(argv[1], argv[2], strtol(argv[3], NULL, 10));
		else if (!strcmp(argv[0], "settle"))
			err = do_settle(strtol(argv[1], NULL, 10));
		else if (!strcmp(argv[0], "quiet"))
			err = do_quiet(strtol(argv[1], NULL, 10), strtol(argv[2], NULL, 10));
		else if (!strcmp(argv[0], "held"))
			err = do_held(strtol(argv[1], NULL, 10), argv[2]);
		else if (!strcmp(argv[0], "stat"))
			err = do_stat(argv[1]);
		else if (!strcmp(argv[0], "trace"))
			err = do_trace(argv[1]);
		else if (!strcmp(argv[0], "spawn"))
			err = do_spawn(argv[1], argv[2], strtol(argv[3], NULL, 10));
		else if (!strcmp(argv[0], "kill"))
			err = do_kill(argv[1]);
		else if (!strcmp(argv[0], "exec"))
			err = do_exec(strtol(argv[1], NULL, 10), argv[2], argv[3]);
		else if (!strcmp(argv[0], "tidy"))
			err = do_tidy(argv[1], argv[2]);
		else if (!strcmp(argv[0], "state"))
			err = do_state();
		else if (!strcmp(argv[0], "log"))
			err = do_log();
		else if (!strcmp(argv[0], "blocked"))
			err = do_blocked();
		else
			err = ENOSYS;
		printf("%d %zu\n", err, reply_len);
		fwrite(reply, 1, reply_len, stdout);
		fflush(stdout);
	}
	return 0;
}
