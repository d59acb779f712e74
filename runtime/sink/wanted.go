package sink

import "github.com/procnanny/procnanny/spec"

// wantedHook is a hook that shall be, and who its command runs as.
type wantedHook struct {
	spec.NamedHook
	identity spec.Identity
}

// wantedHooks are the hooks of s: a command that names no user runs as its
// program does.
func wantedHooks(s spec.Spec) []wantedHook {
	var out []wantedHook
	for _, named := range s.AllHooks() {
		w := wantedHook{NamedHook: named}
		if named.Program != "" {
			w.identity = s.Programs[named.Program].Identity
		}
		if r := named.Run; r != nil && r.Named() {
			w.identity = r.Identity
		}
		out = append(out, w)
	}
	return out
}
