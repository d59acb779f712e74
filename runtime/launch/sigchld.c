/* SIGCHLD without Go: its runtime would wake two threads for each child that
 * ends, beside the loop that waits for the descriptor anyway. */

#include "sigchld.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

static volatile sig_atomic_t told = -1;
static struct sigaction before;

/* Only what signal-safety(7) allows. A full eventfd is readable: nothing is lost. */
static void tell(int sig) {
	int saved = errno;
	uint64_t one = 1;
	(void)sig;
	if (write(told, &one, sizeof one) < 0)
		errno = saved;
}

int pn_tell_children(int fd) {
	/* Go's threads have small stacks: every handler must use the other one. */
	struct sigaction sa = {.sa_handler = tell, .sa_flags = SA_ONSTACK | SA_RESTART};
	told = fd;
	return sigaction(SIGCHLD, &sa, &before) == 0 ? 0 : errno;
}

int pn_untell_children(void) { return sigaction(SIGCHLD, &before, 0) == 0 ? 0 : errno; }
