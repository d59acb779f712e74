package place

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// KeepSecrets keeps the memory of this process, with the values of everybody's
// env in it, out of core files and away from others of its user. An exec ends
// that.
func KeepSecrets() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot keep our memory to ourselves: %w", err)
	}
	return nil
}
