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

/* Go's threads have small stacks: every handler must use the other one. */
static const struct sigaction telling = {.sa_handler = tell, .sa_flags = SA_ONSTACK | SA_RESTART};

int pn_tell_children(int fd) {
	told = fd;
	return sigaction(SIGCHLD, &telling, &before) == 0 ? 0 : errno;
}

/* By default the kernel does not even wake anybody; children stay to be reaped. */
int pn_hush_children(int hush) {
	static const struct sigaction none = {.sa_handler = SIG_DFL};
	return sigaction(SIGCHLD, hush ? &none : &telling, 0) == 0 ? 0 : errno;
}

int pn_untell_children(void) { return sigaction(SIGCHLD, &before, 0) == 0 ? 0 : errno; }
