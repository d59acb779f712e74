#ifndef PROCNANNY_CARRY_H
#define PROCNANNY_CARRY_H

#include <stdint.h>

/* Not an errno: somebody else reads the pipe. */
#define PN_VANISHED (-1)

struct pn_carry {
	int pipe, lens[2], file, witness;
	uint64_t inode;        /* of the pipe */
	int64_t entry;         /* where its entry of the witness is */
	unsigned char *target; /* its byte, mapped */
	int64_t pos, off;      /* of the next byte, in the file and in the stream */
	int64_t most, chunk;   /* how much in all, and at once */
	int64_t least;         /* found in the pipe, to go on */

	int64_t done; /* bytes that are in the file and out of the pipe */
	int64_t left; /* found in the pipe at last */
	int rest;     /* something stayed in the lens */
};

int pn_carry(struct pn_carry *c);
int pn_carry_take_out(struct pn_carry *c, int64_t n);

#endif
