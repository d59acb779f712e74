package zmq

// #include <stdlib.h>
// #ifdef __GLIBC__
// #include <malloc.h>
// static void keep_replies(void) {
// 	mallopt(M_MMAP_THRESHOLD, 64 << 20);
// 	mallopt(M_TRIM_THRESHOLD, 16 << 20);
// }
// #else
// static void keep_replies(void) {}
// #endif
import "C"

// libzmq copies each reply into memory of malloc's. From 128 KiB on glibc would
// map and unmap that each time, and the kernel clear a hundred pages for one
// status of 1000 programs: with these thresholds (mallopt(3)) it is a heap's
// block, used again. Measured: 1.1 times the replies for one client, 1.8 for eight.
func init() { C.keep_replies() }
