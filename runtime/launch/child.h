/* One launch: what Go compiled, and what came of it. See child.c. */
#ifndef PROCNANNY_CHILD_H
#define PROCNANNY_CHILD_H

#include <stdint.h>

/* What a step does. Most are one system call. */
enum pn_op {
	PN_CALL = 1,   /* system call nr with a[0..5] */
	PN_OPEN,       /* open path a[0], openat2 flags a[1], mode a[2], resolve a[3]; make it descriptor a[4] */
	PN_WRITE,      /* write the a[2] bytes at a[1] into file a[0] */
	PN_SIGNALS,    /* disposition to default of the signals in the set a[0]; of all where clone3 could not */
	PN_JOIN,       /* move into the cgroup whose directory is descriptor a[0]; only where clone3 could not */
	PN_BOUND,      /* drop what is not in the set a[0] from the capability bounding set */
	PN_CAPS,       /* inheritable = a[0]; permitted and effective too unless a[1] (still root) */
	PN_CPUS,       /* run on the mask of a[1] bytes at a[0] and on no less; a[2] is scratch of that size */
	PN_FILE,       /* check that file a[0] could be appended to, or made in directory a[1] */
	PN_FIND,       /* check that one of the a[1] paths at a[0] could be executed */
	PN_EXEC,       /* execute the first of a[1] paths at a[0] that can be: argv a[2], environment a[3] */
};

/* A step. Addresses are written as offsets into the arena; bit i of addr says
 * that a[i] is one. */
struct pn_step {
	int32_t op;
	int32_t nr;
	uint32_t addr;
	uint32_t pad;
	uint64_t a[6];
};

struct pn_job {
	/* in */
	struct pn_step *steps; /* set by pn_launch */
	uint64_t count;
	int32_t cgroup; /* descriptor of a cgroup directory, or -1 */
	int32_t legacy; /* do as if the kernel had no clone3: for tests */
	int32_t reap;   /* the child does not exec: wait for its end */
	int32_t end;    /* the child needs no descriptor from this one on; 0: say nothing */
	/* Before all else the child sends, on the socket escrow (-1: none), the text at
	 * deposit with its own pidfd and the kept descriptors of ours in keep: whoever
	 * has the other end has them then, though we die. If it does not execute after
	 * all, it sends the text at withdrawal. The texts are offsets into the arena. */
	int32_t escrow;
	int32_t keep[2];
	int32_t kept;
	uint64_t deposit, deposit_bytes, withdrawal, withdrawal_bytes;
	/* out */
	int32_t pid;
	int32_t pidfd;
	int32_t step;   /* the step that failed, -1 is none, -2 the clone itself */
	int32_t error;  /* errno of it */
	int32_t which;  /* PN_EXEC, PN_FIND: the path that it was about */
};

/* Fills in the out fields; returns 0 when the child runs (or, with reap, ended)
 * as it should. Addresses in steps point into arena, which is named only so
 * that Go keeps it in its place. */
int pn_launch(struct pn_job *job, struct pn_step *steps, const void *arena);

/* The set of signals that this process ignores: bit 0 is signal 1. */
uint64_t pn_ignored(void);

/* The soft and hard limit of open files as this process was started, before
 * Go's runtime raised the soft one. */
extern uint64_t pn_nofile_soft, pn_nofile_hard;

#endif
