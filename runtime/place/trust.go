package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// CheckTrust reports whether another uid or group can change what is at path:
// whether it, or anything on the way to it, is owned by somebody else than
// root, us and trusted, or can be written by a group or by all. A sticky
// directory on the way is good, because there only an owner can rename. What
// does not exist yet is judged by the directories that do.
func CheckTrust(path string, trusted *uint32) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("cannot trust %s: %w", path, err)
	}
	w := walk{wanted: path, trusted: trusted, links: maxLinks}
	return w.check(abs)
}

// walk goes down a path, following each link itself.
type walk struct {
	wanted  string
	trusted *uint32
	links   int
}

func (w *walk) check(abs string) error {
	at, rest := "/", strings.Split(strings.Trim(abs, "/"), "/")
	if abs == "/" {
		rest = nil
	}
	if err := w.judge(at, len(rest) == 0); err != nil {
		return err
	}
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at) // judged on the way down
			continue
		}
		next := filepath.Join(at, name)
		target, err := w.step(next, len(rest) == 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case target == "":
			at = next
			continue
		case filepath.IsAbs(target):
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return nil
}

// step judges one name on the way; for a link it returns where that leads.
func (w *walk) step(path string, last bool) (target string, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return "", w.judgeInfo(path, info, last)
	}
	if w.links--; w.links < 0 {
		return "", fmt.Errorf("cannot trust %s: too many symbolic links", w.wanted)
	}
	if uid := owner(info).Uid; !w.known(uid) {
		return "", w.refuse(path, fmt.Sprintf("the link is owned by %s", userText(uid)))
	}
	return os.Readlink(path)
}

func (w *walk) judge(path string, last bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("cannot trust %s: %w", w.wanted, err)
	}
	return w.judgeInfo(path, info, last)
}

// judgeInfo judges a file or directory. In a sticky directory nobody can rename
// another's entry, but anybody can add one: good on the way, not at the end.
func (w *walk) judgeInfo(path string, info fs.FileInfo, last bool) error {
	st, mode := owner(info), info.Mode()
	sticky := mode&fs.ModeSticky != 0 && info.IsDir() && !last
	switch {
	case !w.known(st.Uid):
		return w.refuse(path, "it is owned by "+userText(st.Uid))
	case sticky:
		return nil
	case mode.Perm()&0o002 != 0:
		return w.refuse(path, fmt.Sprintf("everybody can write it (mode %04o)", mode.Perm()))
	case mode.Perm()&0o020 != 0 && !w.knownGroup(st.Gid):
		return w.refuse(path, fmt.Sprintf("the %s can write it (mode %04o)", groupText(st.Gid), mode.Perm()))
	}
	return nil
}

// known are the users who may do anything here anyway.
func (w *walk) known(uid uint32) bool {
	return uid == 0 || int(uid) == os.Geteuid() || w.trusted != nil && uid == *w.trusted
}

// knownGroup are root's own group, and the trusted user's private one: a group
// of the same name that is the user's primary one.
func (w *walk) knownGroup(gid uint32) bool {
	if gid == 0 {
		return true
	}
	users := []int{os.Geteuid()}
	if w.trusted != nil {
		users = append(users, int(*w.trusted))
	}
	for _, uid := range users {
		if private(uid, gid) {
			return true
		}
	}
	return false
}

func private(uid int, gid uint32) bool {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil || u.Gid != strconv.FormatUint(uint64(gid), 10) {
		return false
	}
	g, err := user.LookupGroupId(u.Gid)
	return err == nil && g.Name == u.Username
}

// refuse says what is wrong at path, and how to make it right.
func (w *walk) refuse(path, why string) error {
	at := path
	if path != w.wanted {
		at = w.wanted + " because of " + path
	}
	return fmt.Errorf("cannot trust %s: %s; %s", at, why, w.remedy(path))
}

func (w *walk) remedy(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return "choose another place"
	}
	if uid := owner(info).Uid; !w.known(uid) {
		return fmt.Sprintf("give it to root (chown root %s), or say --trust-config %d", Quote(path), uid)
	}
	return fmt.Sprintf("take the right away (chmod go-w %s), or choose another place", Quote(path))
}

func owner(info fs.FileInfo) *syscall.Stat_t {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st
	}
	return &syscall.Stat_t{Uid: ^uint32(0), Gid: ^uint32(0)} // not a file of this system: nobody's
}

// Quote makes a text one word of a shell, if it is none yet.
func Quote(text string) string {
	if strings.ContainsAny(text, " \t\n'\"\\$`*?[]{}()<>|&;#~!^") {
		return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	return text
}

func userText(uid uint32) string {
	text := fmt.Sprintf("uid %d", uid)
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		text += " (" + u.Username + ")"
	}
	return text
}

func groupText(gid uint32) string {
	text := fmt.Sprintf("group %d", gid)
	if g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10)); err == nil {
		text += " (" + g.Name + ")"
	}
	return text
}
