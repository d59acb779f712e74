package crashpoint

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Variable names the directory in which files arm points.
const Variable = "PROCNANNY_CRASH_DIR"

// dir is Variable's value when we were started; empty is that nothing can be
// armed.
var dir = os.Getenv(Variable)

// Here ends this process if p is armed.
func Here(p Point) {
	if dir != "" {
		reach(p)
	}
}

//go:noinline
func reach(p Point) {
	if os.Remove(filepath.Join(dir, p.String())) != nil {
		return
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {} // it comes at once
}

// Arm arms a point of all processes that have dir as Variable.
func Arm(dir string, p Point) error {
	return os.WriteFile(filepath.Join(dir, p.String()), nil, 0o600)
}

// Armed reports whether a point that was armed has not been reached.
func Armed(dir string, p Point) bool {
	_, err := os.Stat(filepath.Join(dir, p.String()))
	return err == nil
}

// String is the point's name.
func (p Point) String() string {
	if int(p) >= len(points) {
		return "unknown"
	}
	return points[p].Name
}
