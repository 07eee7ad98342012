// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The guest's init: mounts what the agent reads, sets up the network, and waits on the console for
 * what makes this guest another one than its siblings:
 *
 *   lab-identity SECONDS ENTROPY HOST-KEY AUTHORIZED-KEY LF
 *
 * the time since the epoch, 32 bytes of entropy and dropbear's host key in hex, and the one client
 * that may log in. A guest can be kept while it waits and go on many times, each time as somebody
 * else. It says what it does in lines that begin with "lab: ".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ADDRESS "10.0.2.15"
#define NETMASK "255.255.255.0"
#define HOST_KEY "/etc/dropbear/host_key"
#define AUTHORIZED "/root/.ssh/authorized_keys"
#define PID_FILE "/run/dropbear.pid"
#define ENTROPY 32
#define HOST_KEY_MAX 256
/* How long the processes of an earlier identity may take to end. */
#define GOING_MS 5000
/* Modules of a distribution's kernel without which there is no network. */
#define EARLY "/usr/lib/modules/lab"
/* How long the network may take to be there after them. */
#define NETWORK_MS 5000

static void say(const char *line)
{
	dprintf(STDOUT_FILENO, "lab: %s\n", line);
}

static void mount_at(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		dprintf(STDOUT_FILENO, "lab: cannot mount %s: %s\n", dir, strerror(errno));
}

static int write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), failed;

	if (fd < 0)
		return -1;
	failed = write(fd, data, len) != (ssize_t)len;
	return close(fd) || failed ? -1 : 0;
}

/* In the order of their names; most kernels have none. */
static int load_early(void)
{
	struct dirent **names;
	char path[512];
	int count = scandir(EARLY, &names, NULL, alphasort), loaded = 0, i, fd;

	for (i = 0; i < count; i++) {
		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), EARLY "/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			dprintf(STDOUT_FILENO, "lab: cannot load %s: %s\n", path, strerror(errno));
		else
			loaded++;
		if (fd >= 0)
			close(fd);
	}
	return loaded;
}

static int set_address(int fd, unsigned long what, const char *interface, const char *address)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;

	strcpy(request.ifr_name, interface);
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	return ioctl(fd, what, &request);
}

static int set_up(int fd, const char *interface)
{
	struct ifreq request = { 0 };

	strcpy(request.ifr_name, interface);
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		return -1;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &request);
}

static void start_network(int wait_ms)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (; wait_ms > 0 && !if_nametoindex("eth0"); wait_ms -= 10)
		usleep(10000);

	if (fd < 0 || set_up(fd, "lo") || set_address(fd, SIOCSIFADDR, "eth0", ADDRESS) ||
	    set_address(fd, SIOCSIFNETMASK, "eth0", NETMASK) || set_up(fd, "eth0"))
		dprintf(STDOUT_FILENO, "lab: no network: %s\n", strerror(errno));
	close(fd);
}

/* Whole lines, and none of them written back. */
static void prepare_console(void)
{
	struct termios console;

	if (tcgetattr(STDIN_FILENO, &console))
		return;
	console.c_lflag &= ~(ECHO | ISIG);
	console.c_lflag |= ICANON;
	tcsetattr(STDIN_FILENO, TCSANOW, &console);
}

/* Returns the number of bytes, -1 if `text` is no hex. */
static int from_hex(const char *text, unsigned char *bytes, int max)
{
	int count = strlen(text) / 2, i;

	if (strlen(text) % 2 || count > max)
		return -1;
	for (i = 0; i < count; i++)
		if (sscanf(text + 2 * i, "%2hhx", &bytes[i]) != 1)
			return -1;
	return count;
}

static void set_clock(const char *seconds)
{
	struct timespec now = { .tv_sec = strtoll(seconds, NULL, 10) };
	const char *fraction = strchr(seconds, '.');

	if (fraction)
		now.tv_nsec = strtol(fraction + 1, NULL, 10);
	if (clock_settime(CLOCK_REALTIME, &now))
		say("cannot set the clock");
}

/* The generator of a guest that was kept would say the same in each of its siblings. */
static void add_entropy(const unsigned char *bytes)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[ENTROPY];
	} pool = { .info = { .entropy_count = ENTROPY * 8, .buf_size = ENTROPY } };
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	memcpy(pool.bytes, bytes, ENTROPY);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG))
		say("cannot add entropy");
	close(fd);
}

/*
 * Ends the ssh server of an earlier identity. It takes SIGTERM as a hint for its next round, which
 * may never come: without its connections, nothing wakes it up.
 */
static void stop_dropbear(void)
{
	char text[32] = "";
	int fd = open(PID_FILE, O_RDONLY | O_CLOEXEC), waited;
	pid_t pid;

	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0 && (pid = atoi(text)) > 1 && !kill(pid, SIGKILL))
		for (waited = 0; !kill(pid, 0) && waited < GOING_MS; waited++)
			usleep(1000);
	close(fd);
	unlink(PID_FILE);
}

static int start_dropbear(void)
{
	int status = -1, started;
	pid_t pid;

	signal(SIGCHLD, SIG_DFL);
	pid = fork();
	if (!pid) {
		execl("/usr/sbin/dropbear", "dropbear", "-r", HOST_KEY, "-s", "-j", "-k", "-p", "22",
		      "-P", PID_FILE, (char *)NULL);
		_exit(127);
	}
	/* It goes into the background once it listens. */
	started = pid > 0 && waitpid(pid, &status, 0) == pid && !status;
	/* What has lost its parent goes by itself. */
	signal(SIGCHLD, SIG_IGN);
	return started ? 0 : -1;
}

static void become(char *line)
{
	unsigned char entropy[ENTROPY], key[HOST_KEY_MAX];
	char *seconds, *hex, *host_key;
	int key_length;

	line[strcspn(line, "\n")] = '\0';
	if (strcmp(strsep(&line, " "), "lab-identity"))
		return;
	seconds = strsep(&line, " ");
	hex = strsep(&line, " ");
	host_key = strsep(&line, " ");
	if (!line || from_hex(hex, entropy, ENTROPY) != ENTROPY ||
	    (key_length = from_hex(host_key, key, HOST_KEY_MAX)) < 0) {
		say("this is no identity");
		return;
	}
	set_clock(seconds);
	add_entropy(entropy);
	stop_dropbear();
	if (write_file(HOST_KEY, key, key_length) || write_file(AUTHORIZED, line, strlen(line)) ||
	    start_dropbear())
		say("dropbear did not start");
	else
		say("ready");
}

int main(void)
{
	char line[4096];
	ssize_t length;

	setenv("PATH", "/bin", 1);
	umask(022);
	signal(SIGCHLD, SIG_IGN);
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	mount_at("devpts", "/dev/pts");
	mount_at("debugfs", "/sys/kernel/debug");
	mount_at("tracefs", "/sys/kernel/tracing");
	mkdir("/run", 0755);
	mkdir("/root/.ssh", 0700);
	/*
	 * What the kernel says goes to the console: it is the evidence of last resort. Not debug
	 * messages: the kthread that prints them would be what holds a transition up at its next try.
	 */
	write_file("/proc/sys/kernel/printk", "7", 1);
	start_network(load_early() ? NETWORK_MS : 0);
	prepare_console();
	say("waiting for an identity");
	while ((length = read(STDIN_FILENO, line, sizeof(line) - 1)) > 0) {
		line[length] = '\0';
		become(line);
	}
	say("the console has ended");
	for (;;)
		pause();
}
