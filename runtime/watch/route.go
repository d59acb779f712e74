package watch

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, as in the
// kernel.
const maxLinks = 40

// step is a name in a directory that decides what a path means: replacing it
// leads the path elsewhere, without any event in the place it leads to.
type step struct{ dir, name string }

// route follows an absolute path as the kernel does. It returns the steps that
// decide where it leads (each link on the way, and the last name) and where
// that is. When something on the way is missing, the last step is that.
func route(path string) (steps []step, real string) {
	todo := strings.Split(filepath.Clean(path), "/")[1:]
	at, links := "/", 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		here := filepath.Join(at, name)
		target, kind := readLink(here)
		if kind == isLink && links < maxLinks {
			links++
			steps = append(steps, step{at, name})
			if filepath.IsAbs(target) {
				at = "/"
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		}
		if kind != isOther || len(todo) == 0 {
			steps = append(steps, step{at, name})
		}
		at = here
		if kind != isOther {
			break
		}
	}
	return steps, at
}

// What stands at the end of a name.
const (
	isOther = iota
	isLink
	isMissing
)

func readLink(path string) (target string, kind int) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", isMissing
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", isOther
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(path, buf)
	if err != nil || n == 0 {
		return "", isMissing
	}
	return string(buf[:n]), isLink
}

// steps are all names outside of the walked directories that decide what the
// configuration is, and the directories that its files really lie in.
func (s *scan) steps() (all []step, homes []string) {
	seen := map[string]bool{}
	home := func(dir string) {
		if !seen[dir] {
			seen[dir] = true
			homes = append(homes, dir)
		}
	}
	more, real := route(s.root)
	all = more
	home(real)
	for _, link := range s.links {
		more, real := route(link)
		all = append(all, more...)
		home(filepath.Dir(real))
	}
	return all, homes
}
