package launch

// #include "sigchld.h"
import "C"

import (
	"fmt"
	"syscall"
)

// TellChildren has each SIGCHLD, the end of some child, written to an eventfd:
// without Go's own way, which wakes two threads that have nothing to say about
// it. stop ends that and must come before the descriptor is closed. There is one
// at a time in a process; os/signal must not be asked for SIGCHLD meanwhile.
func TellChildren(eventfd int) (stop func(), err error) {
	if errno := C.pn_tell_children(C.int(eventfd)); errno != 0 {
		return nil, fmt.Errorf("cannot handle SIGCHLD: %w", syscall.Errno(errno))
	}
	return func() { C.pn_untell_children() }, nil
}

// HushChildren has nobody told of SIGCHLD for a while, or again, between
// TellChildren and its stop. Children that end meanwhile stay to be reaped.
func HushChildren(hush bool) error {
	var on C.int
	if hush {
		on = 1
	}
	if errno := C.pn_hush_children(on); errno != 0 {
		return fmt.Errorf("cannot handle SIGCHLD: %w", syscall.Errno(errno))
	}
	return nil
}
