/* The steps of carry.go; witness.go says what is in an entry. */

#define _GNU_SOURCE
#include "carry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* SCRATCH is read over and over to take bytes out of a pipe: it stays in the
 * first cache. VECTORS of it are more than any chunk. */
enum { SCRATCH = 16 << 10, VECTORS = 34, MARK = 16 };

static int put(struct pn_carry *c, const void *b, size_t n, int64_t at) {
	ssize_t k;
	do
		k = pwrite(c->witness, b, n, c->entry + at);
	while (k < 0 && errno == EINTR);
	return k == (ssize_t)n ? 0 : k < 0 ? errno : EIO;
}

/* begin says that bytes from off on are about to be in both. */
static int begin(struct pn_carry *c) {
	unsigned char b[MARK + 2] = {[MARK] = 0, [MARK + 1] = 1};
	memcpy(b, &c->inode, 8);
	memcpy(b + 8, &c->off, 8);
	return put(c, b, sizeof b, 0);
}

/* end says that none is in both. */
static void end(struct pn_carry *c) {
	unsigned char none[2] = {0, 0};
	put(c, none, 2, MARK);
}

static int discard(struct pn_carry *c, int64_t n) {
	char scratch[SCRATCH];
	while (n > 0) {
		ssize_t k = read(c->pipe, scratch, n < SCRATCH ? n : SCRATCH);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return PN_VANISHED;
		n -= k;
	}
	return 0;
}

/* pn_carry_take_out takes n bytes out of the pipe that are the last of the file,
 * which ends at pos. */
int pn_carry_take_out(struct pn_carry *c, int64_t n) {
	unsigned char last;
	char scratch[SCRATCH];
	struct iovec v[VECTORS];
	int i = 0;
	ssize_t k;

	if (n > (VECTORS - 1) * (int64_t)SCRATCH || pread(c->file, &last, 1, c->pos - 1) != 1) {
		end(c);
		return discard(c, n);
	}
	unsigned char aim[2] = {last, (unsigned char)~last};
	put(c, aim, 2, MARK);        /* the page is there: see begin */
	memset(scratch, 0, SCRATCH); /* this one, too: a read that faults can end half way */
	for (int64_t left = n - 1; left > 0; left -= SCRATCH)
		v[i++] = (struct iovec){scratch, left < SCRATCH ? left : SCRATCH};
	v[i++] = (struct iovec){c->target, 1};
	do
		k = readv(c->pipe, v, i);
	while (k < 0 && errno == EINTR);
	if (k == n)
		return 0;
	end(c); /* somebody reads the pipe, or cut the witness */
	return discard(c, n - (k > 0 ? k : 0));
}

static int once(struct pn_carry *c, int64_t n) {
	int err = 0;
	int64_t copied = 0;
	ssize_t got = tee(c->pipe, c->lens[1], n, SPLICE_F_NONBLOCK);

	if (got <= 0)
		return got < 0 ? errno : PN_VANISHED;
	if ((err = begin(c))) {
		c->rest = 1;
		return err;
	}
	while (copied < got) {
		off_t at = c->pos;
		ssize_t k = splice(c->lens[0], NULL, c->file, &at, got - copied, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			err = k < 0 ? errno : EIO;
			c->rest = 1;
			break;
		}
		copied += k;
		c->pos += k;
	}
	if (copied == 0) {
		end(c);
		return err;
	}
	c->off += copied;
	c->done += copied;
	int gone = pn_carry_take_out(c, copied);
	return err ? err : gone;
}

/* pn_carry returns 0, an errno, or PN_VANISHED. */
int pn_carry(struct pn_carry *c) {
	for (;;) {
		int found = 0, err;
		if (ioctl(c->pipe, FIONREAD, &found))
			return errno;
		c->left = found;
		if (found == 0 || c->done >= c->most || (c->done > 0 && found < c->least))
			return 0;
		int64_t n = c->most - c->done;
		n = n < c->chunk ? n : c->chunk;
		if ((err = once(c, n < found ? n : found)))
			return err;
	}
}
