package place

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Libexec finds one of our inner programs: in PROCNANNY_LIBEXEC when that is
// set, else beside our own executable, else in ../libexec/procnanny from there.
func Libexec(name string) (string, error) {
	dirs := []string{os.Getenv("PROCNANNY_LIBEXEC")}
	if dirs[0] == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("cannot find %s: %w", name, err)
		}
		bin := filepath.Dir(self)
		dirs = []string{bin, filepath.Join(filepath.Dir(bin), "libexec", "procnanny")}
	}
	for _, dir := range dirs {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("cannot find %s: %w", name, err)
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot find %s: it is not in %s (PROCNANNY_LIBEXEC names another place)", name, strings.Join(dirs, " or "))
}

// Logger writes text when w is a terminal, else JSON, one record a line.
func Logger(w *os.File) *slog.Logger {
	if _, err := unix.IoctlGetTermios(int(w.Fd()), unix.TCGETS); err == nil {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}
