package place

import (
	"fmt"
	"path/filepath"
)

// Dirs are the directories of a daemon. An empty one is not known: HOME is
// not set.
type Dirs struct{ Config, State, Run, LogDir string }

// Defaults returns the directories of uid's daemon: the system's for root,
// those of the XDG base directory specification otherwise.
func Defaults(uid int, getenv func(string) string) Dirs {
	if uid == 0 {
		return Dirs{"/etc/procnanny", "/var/lib/procnanny", "/run/procnanny", "/var/log/procnanny"}
	}
	d := Dirs{
		Config: xdg(getenv, "XDG_CONFIG_HOME", ".config"),
		State:  xdg(getenv, "XDG_STATE_HOME", ".local/state"),
		Run:    xdg(getenv, "XDG_RUNTIME_DIR", ""),
	}
	if d.Run == "" {
		d.Run = fallbackRun(uid)
	}
	if d.State != "" {
		d.LogDir = filepath.Join(d.State, "log")
	}
	return d
}

// fallbackRun is where sockets go when the system gives the user no place.
func fallbackRun(uid int) string { return fmt.Sprintf("/tmp/procnanny-%d", uid) }

// xdg is procnanny's directory below the one a variable names; a relative one
// counts as unset, as the specification says.
func xdg(getenv func(string) string, variable, home string) string {
	base := getenv(variable)
	if !filepath.IsAbs(base) {
		if h := getenv("HOME"); home != "" && filepath.IsAbs(h) {
			base = filepath.Join(h, home)
		} else {
			return ""
		}
	}
	return filepath.Join(base, "procnanny")
}
