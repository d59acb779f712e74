/* The child between clone and exec.
 *
 * The child shares our memory (CLONE_VM) until it executes, and the thread that
 * made it sleeps meanwhile (CLONE_VFORK). So the child
 *   - runs on a stack of its own, in the frame of the sleeping thread;
 *   - makes raw system calls only: no libc, whose locks and thread state belong
 *     to others (libc's setuid would even drag every thread of ours along), and
 *     no Go;
 *   - takes no signal: all are blocked from before the clone until every handler
 *     is back to default;
 *   - says what failed by writing it into the job, which is our memory too.
 * Everything that needs thought (names, paths, formats) was done in Go before:
 * the child walks an array of steps. */

#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif

#define STACK_BYTES 16384
#define KERNEL_SIGNALS 64
#define KERNEL_SIGSET 8 /* bytes */

uint64_t pn_nofile_soft, pn_nofile_hard;

__attribute__((constructor)) static void remember_nofile(void) {
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		pn_nofile_soft = r.rlim_cur;
		pn_nofile_hard = r.rlim_max;
	}
}

/* ---- raw system calls: the result is negative errno ---- */

#if defined(__x86_64__)

static inline long raw(long n, long a, long b, long c, long d, long e, long f) {
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

/* System call n with arguments a to d; the new process begins in fn(arg), which
 * does not return. */
static inline long raw_clone(long n, long a, long b, long c, long d, void (*fn)(void *), void *arg) {
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	register void *r12 __asm__("r12") = (void *)fn;
	register void *r13 __asm__("r13") = arg;
	__asm__ volatile(
		"syscall\n\t"
		"test %%rax, %%rax\n\t"
		"jnz 1f\n\t"
		"xor %%ebp, %%ebp\n\t"
		"mov %%r13, %%rdi\n\t"
		"call *%%r12\n\t"
		"hlt\n"
		"1:"
		: "=a"(ret) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
		: "rcx", "r11", "memory", "cc");
	return ret;
}

#elif defined(__aarch64__)

static inline long raw(long n, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
	return x0;
}

static inline long raw_clone(long n, long a, long b, long c, long d, void (*fn)(void *), void *arg) {
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = 0;
	register void *x19 __asm__("x19") = (void *)fn;
	register void *x20 __asm__("x20") = arg;
	__asm__ volatile(
		"svc #0\n\t"
		"cbnz x0, 1f\n\t"
		"mov x29, xzr\n\t"
		"mov x0, x20\n\t"
		"blr x19\n\t"
		"brk #1\n"
		"1:"
		: "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x19), "r"(x20)
		: "x30", "memory", "cc");
	return x0;
}

#else
#error "write raw and raw_clone for this architecture"
#endif

#define CALL(n, a, b, c, d) raw((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/* The kernel's struct sigaction. With SIG_DFL its fields are all zero, and so
 * the same on every architecture. */
struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

/* ---- the steps ---- */

static long default_signals(uint64_t these) {
	struct kernel_sigaction dfl = {0};
	for (int s = 1; s <= KERNEL_SIGNALS; s++) {
		if (s == SIGKILL || s == SIGSTOP || !(these >> (s - 1) & 1))
			continue;
		long r = CALL(SYS_rt_sigaction, s, &dfl, 0, KERNEL_SIGSET);
		if (r < 0)
			return r;
	}
	return 0;
}

static long move_descriptor(long fd, long to) {
	if (fd == to)
		return 0;
	long r = CALL(SYS_dup3, fd, to, 0, 0);
	CALL(SYS_close, fd, 0, 0, 0);
	return r;
}

/* Opened without waiting, so that no FIFO can hold the keeper up; then made
 * waiting as programs expect. */
static long open_as(const uint64_t *a) {
	struct open_how how = {.flags = a[1] | O_NONBLOCK | O_NOCTTY, .mode = a[2], .resolve = a[3]};
	long fd = a[3] == 0 ? CALL(SYS_openat, AT_FDCWD, a[0], how.flags, how.mode)
	                    : CALL(SYS_openat2, AT_FDCWD, a[0], &how, sizeof how);
	if (fd < 0)
		return fd;
	long r = CALL(SYS_fcntl, fd, F_SETFL, a[1] & O_APPEND, 0);
	return r < 0 ? r : move_descriptor(fd, (long)a[4]);
}

static long write_file(const uint64_t *a) {
	long fd = CALL(SYS_openat, AT_FDCWD, a[0], O_WRONLY | O_CLOEXEC, 0);
	long r = fd;
	if (fd >= 0) {
		r = CALL(SYS_write, fd, a[1], a[2], 0);
		CALL(SYS_close, fd, 0, 0, 0);
	}
	return r;
}

static long join_cgroup(long dir) {
	long fd = CALL(SYS_openat, dir, "cgroup.procs", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	long r = CALL(SYS_write, fd, "0", 1, 0);
	CALL(SYS_close, fd, 0, 0, 0);
	return r;
}

static long bound_capabilities(uint64_t keep) {
	for (int c = 0; c < 64; c++) {
		long r = CALL(SYS_prctl, PR_CAPBSET_READ, c, 0, 0);
		if (r == -EINVAL)
			return 0; /* past the kernel's last one */
		if (r == 1 && !(keep >> c & 1))
			r = CALL(SYS_prctl, PR_CAPBSET_DROP, c, 0, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

static long set_capabilities(uint64_t want, int root) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	long r = CALL(SYS_capget, &head, data, 0, 0);
	if (r < 0)
		return r;
	for (int i = 0; i < 2; i++) {
		uint32_t part = (uint32_t)(want >> (32 * i));
		data[i].inheritable = part;
		if (!root)
			data[i].permitted = data[i].effective = part;
	}
	return CALL(SYS_capset, &head, data, 0, 0);
}

/* The kernel silently leaves out CPUs that it does not have or that a cpuset
 * forbids; less than asked for is an error here. */
static long set_cpus(const uint64_t *a) {
	const uint8_t *want = (const uint8_t *)a[0];
	uint8_t *got = (uint8_t *)a[2];
	long r = CALL(SYS_sched_setaffinity, 0, a[1], want, 0);
	if (r < 0)
		return r;
	r = CALL(SYS_sched_getaffinity, 0, a[1], got, 0);
	if (r < 0)
		return r;
	for (long i = 0; i < (long)a[1]; i++)
		if (want[i] != (i < r ? got[i] : 0))
			return -EINVAL;
	return 0;
}

static long may(const char *path, long mode) {
	long r = CALL(SYS_faccessat2, AT_FDCWD, path, mode, AT_EACCESS);
	/* Before Linux 5.8; here the real ids are the effective ones. */
	return r == -ENOSYS ? CALL(SYS_faccessat, AT_FDCWD, path, mode, 0) : r;
}

static long reachable(const char *path, uint64_t flags) {
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | flags, .resolve = RESOLVE_NO_SYMLINKS};
	long fd = CALL(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
	if (fd >= 0)
		CALL(SYS_close, fd, 0, 0, 0);
	return fd;
}

static long check_file(const char *path, const char *dir) {
	long r = reachable(path, 0);
	if (r >= 0) {
		r = reachable(path, O_DIRECTORY);
		return r >= 0 ? -EISDIR : may(path, 2 /* W_OK */);
	}
	if (r != -ENOENT)
		return r;
	r = reachable(dir, O_DIRECTORY);
	return r < 0 ? r : may(dir, 2 | 1 /* W_OK, X_OK */);
}

static long executable(const char *path) {
	struct statx st;
	long r = raw(SYS_statx, AT_FDCWD, (long)path, 0, STATX_TYPE, (long)&st, 0);
	if (r < 0)
		return r;
	if (!S_ISREG(st.stx_mode))
		return -EACCES;
	return may(path, 1 /* X_OK */);
}

/* As execvp(3): what is not there is passed over, what is forbidden is
 * remembered, anything else is the answer. */
static long try_each(const uint64_t *a, int32_t *which, int run) {
	const char *const *paths = (const char *const *)a[0];
	long r = -ENOENT, denied = 0;
	for (int32_t i = 0; i < (int32_t)a[1]; i++) {
		r = run ? CALL(SYS_execve, paths[i], a[2], a[3], 0) : executable(paths[i]);
		if (r == -EACCES && !denied) {
			denied = r;
			*which = i;
		}
		switch (-r) {
		case EACCES: case ENOENT: case ENOTDIR: case ESTALE: case ENODEV: case ETIMEDOUT:
			continue;
		}
		*which = i;
		return r;
	}
	return denied ? denied : r;
}

static long take(struct pn_job *job, const struct pn_step *s) {
	const uint64_t *a = s->a;
	switch ((enum pn_op)s->op) {
	case PN_CALL:    return raw(s->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	case PN_OPEN:    return open_as(a);
	case PN_WRITE:   return write_file(a);
	case PN_SIGNALS: return default_signals(job->legacy ? ~(uint64_t)0 : a[0]);
	case PN_JOIN:    return job->legacy ? join_cgroup(a[0]) : 0;
	case PN_BOUND:   return bound_capabilities(a[0]);
	case PN_CAPS:    return set_capabilities(a[0], a[1] != 0);
	case PN_CPUS:    return set_cpus(a);
	case PN_FILE:    return check_file((const char *)a[0], (const char *)a[1]);
	case PN_FIND:    return try_each(a, &job->which, 0);
	case PN_EXEC:    return try_each(a, &job->which, 1);
	}
	return -ENOSYS;
}

/* A table of descriptors of our own, without those that we do not need: the
 * kernel copies only what lies below. Before Linux 5.9 it is copied whole. */
static long own_descriptors(long end) {
	long r = CALL(SYS_close_range, end, ~0U, CLOSE_RANGE_UNSHARE, 0);
	return r < 0 ? CALL(SYS_unshare, CLONE_FILES, 0, 0, 0) : r;
}

/* Nobody waits for what is sent, and without room on the socket the child does
 * without: we hold the same as long as we live. */
static void leave(const struct pn_job *job, uint64_t text, uint64_t bytes, const int32_t *fds, int count) {
	struct iovec said = {.iov_base = (void *)text, .iov_len = bytes};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(3 * sizeof(int32_t))];
	} rights;
	struct msghdr m = {.msg_iov = &said, .msg_iovlen = 1};
	if (count > 0) {
		m.msg_control = &rights;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int32_t));
		rights.head.cmsg_len = CMSG_LEN(count * sizeof(int32_t));
		rights.head.cmsg_level = SOL_SOCKET;
		rights.head.cmsg_type = SCM_RIGHTS;
		for (int i = 0; i < count; i++)
			((int32_t *)CMSG_DATA(&rights.head))[i] = fds[i];
	}
	CALL(SYS_sendmsg, job->escrow, &m, MSG_DONTWAIT | MSG_NOSIGNAL, 0);
}

/* The descriptors are those of our parent, whose table is still ours; a copy of
 * that one (before clone3) has all but the pidfd. */
static void leave_deposit(const struct pn_job *job) {
	int shared = job->end > 0 && !job->legacy, n = 0;
	long self = shared ? job->pidfd : CALL(SYS_pidfd_open, CALL(SYS_getpid, 0, 0, 0, 0), 0, 0, 0);
	int32_t fds[3];
	if (self >= 0)
		fds[n++] = (int32_t)self;
	for (int i = 0; i < job->kept; i++)
		fds[n++] = job->keep[i];
	leave(job, job->deposit, job->deposit_bytes, fds, n);
	if (self >= 0 && !shared)
		CALL(SYS_close, self, 0, 0, 0);
}

static void child(void *arg) {
	struct pn_job *job = arg;
	if (job->escrow >= 0)
		leave_deposit(job);
	long own = job->end > 0 && !job->legacy ? own_descriptors(job->end) : 0;
	if (own < 0) {
		job->error = (int32_t)-own;
		job->step = -2;
	}
	for (uint64_t i = 0; i < job->count && own >= 0; i++) {
		long r = take(job, &job->steps[i]);
		if (r < 0) {
			job->error = (int32_t)-r;
			job->step = (int32_t)i;
			break;
		}
	}
	if (job->escrow >= 0)
		leave(job, job->withdrawal, job->withdrawal_bytes, 0, 0);
	for (;;)
		CALL(SYS_exit_group, job->error ? 127 : 0, 0, 0, 0);
}

/* ---- the parent ---- */

static long make_child(struct pn_job *job, char *stack) {
	/* A child that does not exec raises no SIGCHLD and is not seen by a plain
	 * wait for any child, so that nobody but us reaps it. */
	uint64_t sig = job->reap ? 0 : SIGCHLD;
	uint64_t flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD;
	struct clone_args args = {
		.flags = flags | CLONE_CLEAR_SIGHAND | (job->end > 0 ? CLONE_FILES : 0) | (job->cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&job->pidfd,
		.exit_signal = sig,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = STACK_BYTES,
		.cgroup = job->cgroup >= 0 ? (uint64_t)job->cgroup : 0,
	};
	if (!job->legacy) {
		long r = raw_clone(SYS_clone3, (long)&args, sizeof args, 0, 0, child, job);
		if (r != -ENOSYS)
			return r;
	}
	/* Container runtimes hide clone3, which their filters cannot look into. */
	job->legacy = 1;
	return raw_clone(SYS_clone, (long)(flags | sig), (long)(stack + STACK_BYTES), (long)&job->pidfd, 0, child, job);
}

/* Its wait status; 0 also when somebody else's wait for any child was faster. */
static int reap(int pid) {
	int status = 0;
	while (CALL(SYS_wait4, pid, &status, __WALL, 0) == -EINTR)
		;
	return status;
}

int pn_launch(struct pn_job *job, struct pn_step *steps, const void *arena) {
	_Alignas(16) char stack[STACK_BYTES];
	uint64_t all = ~(uint64_t)0, before;

	job->steps = steps;
	job->deposit += (uint64_t)(uintptr_t)arena;
	job->withdrawal += (uint64_t)(uintptr_t)arena;
	job->step = job->which = -1;
	job->error = 0;
	job->pid = job->pidfd = -1;
	CALL(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, KERNEL_SIGSET);
	long r = make_child(job, stack);
	CALL(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, KERNEL_SIGSET);
	if (r < 0) {
		job->step = -2;
		job->error = (int32_t)-r;
		job->pidfd = -1;
		return -1;
	}
	job->pid = (int32_t)r;
	if (job->reap || job->error) {
		if (reap(job->pid) != 0 && job->error == 0) {
			job->step = -2; /* somebody killed it */
			job->error = EINTR;
		}
		CALL(SYS_close, job->pidfd, 0, 0, 0);
		job->pidfd = -1;
	}
	return job->error ? -1 : 0;
}

uint64_t pn_ignored(void) {
	uint64_t ignored = 0;
	for (int s = 1; s <= KERNEL_SIGNALS; s++) {
		struct kernel_sigaction now = {0};
		if (CALL(SYS_rt_sigaction, s, 0, &now, KERNEL_SIGSET) == 0 && now.handler == (void *)SIG_IGN)
			ignored |= (uint64_t)1 << (s - 1);
	}
	return ignored;
}
