/* Who hears that a child has ended. See sigchld.c. */
#ifndef PROCNANNY_SIGCHLD_H
#define PROCNANNY_SIGCHLD_H

/* From now on each SIGCHLD is a write to the eventfd, until pn_untell_children,
 * after which the handler is the former one; in between it may be hushed. All
 * return 0 or errno. */
int pn_tell_children(int fd);
int pn_hush_children(int hush);
int pn_untell_children(void);

#endif
