package place

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 54321 // a uid and gid that nobody has

// ownDir is a directory that only we can write, with parents that only root
// can, except for a sticky one.
func ownDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pn-trust")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func rootOnly(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
}

// tree makes a/b/c with one part changed, and returns the path of c.
func tree(t *testing.T, part string, uid, gid int, mode os.FileMode) string {
	t.Helper()
	dir := ownDir(t)
	leaf := filepath.Join(dir, "a/b/c")
	must(t, os.MkdirAll(leaf, 0o755))
	target := filepath.Join(dir, part)
	if uid >= 0 || gid >= 0 {
		must(t, os.Chown(target, uid, gid))
	}
	must(t, os.Chmod(target, mode))
	return leaf
}

func TestTrustMatrix(t *testing.T) {
	rootOnly(t)
	trusted := uint32(stranger)
	for _, c := range []struct {
		what     string
		part     string
		uid, gid int
		mode     os.FileMode
		trust    *uint32
		want     string // in the error; empty is good
	}{
		{"ours", "a/b/c", -1, -1, 0o755, nil, ""},
		{"private", "a/b/c", -1, -1, 0o700, nil, ""},
		{"root's group may write", "a/b/c", -1, -1, 0o775, nil, ""},
		{"a group may read", "a/b/c", -1, stranger, 0o750, nil, ""},
		{"a group may write", "a/b/c", -1, stranger, 0o770, nil, "the group 54321 can write it (mode 0770); take the right away (chmod go-w "},
		{"all may write", "a/b/c", -1, -1, 0o757, nil, "everybody can write it (mode 0757)"},
		{"all may add", "a/b/c", -1, -1, 0o777 | os.ModeSticky, nil, "everybody can write it (mode 0777)"},
		{"another owner", "a/b/c", stranger, -1, 0o755, nil, "it is owned by uid 54321; give it to root (chown root "},
		{"the trusted owner", "a/b/c", stranger, -1, 0o755, &trusted, ""},
		{"the trusted owner's group", "a/b/c", stranger, stranger, 0o775, &trusted, "the group 54321 can write it"},
		{"another than the trusted owner", "a/b/c", stranger + 1, -1, 0o755, &trusted, "--trust-config 54322"},
		{"a parent of another owner", "a", stranger, -1, 0o755, nil, "/a: it is owned by uid 54321"},
		{"a parent that all may write", "a/b", -1, -1, 0o777, nil, "/a/b: everybody can write it"},
		{"a sticky parent", "a/b", -1, -1, 0o777 | os.ModeSticky, nil, ""},
		{"a sticky parent of another owner", "a/b", stranger, -1, 0o777 | os.ModeSticky, nil, "owned by uid 54321"},
	} {
		leaf := tree(t, c.part, c.uid, c.gid, c.mode)
		err := CheckTrust(leaf, c.trust)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), leaf)):
			t.Errorf("%s:\n got %v\nwant %s", c.what, err, c.want)
		}
	}
}

func TestTrustFollowsLinks(t *testing.T) {
	rootOnly(t)
	dir := ownDir(t)
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	must(t, os.Mkdir(good, 0o755))
	must(t, os.Mkdir(bad, 0o755))
	must(t, os.Mkdir(bad+"/inner", 0o755))
	must(t, os.Chown(bad, stranger, stranger))
	link := func(name, to string) string {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
		return filepath.Join(dir, name)
	}
	must(t, CheckTrust(link("l1", "good"), nil))
	must(t, CheckTrust(link("l2", "l1/../good/."), nil))
	for _, p := range []string{link("l3", "bad/inner"), link("l4", bad), link("l5", "good/../bad/inner")} {
		if err := CheckTrust(p, nil); err == nil || !strings.Contains(err.Error(), bad+": it is owned by") {
			t.Errorf("%s: %v", p, err)
		}
	}
	// A link that another may replace is no better than a directory of another.
	must(t, os.Symlink(good, bad+"/l"))
	if err := CheckTrust(bad+"/l", nil); err == nil {
		t.Error("a link in somebody's directory was trusted")
	}
	theirs := link("l6", "good")
	must(t, os.Lchown(theirs, stranger, stranger))
	if err := CheckTrust(theirs, nil); err == nil || !strings.Contains(err.Error(), "the link is owned by uid 54321") {
		t.Error(err)
	}
	if err := CheckTrust(link("loop", "loop"), nil); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Error(err)
	}
}

func TestTrustOfWhatIsMissing(t *testing.T) {
	rootOnly(t)
	dir := ownDir(t)
	must(t, CheckTrust(dir+"/x/y/z", nil))
	must(t, os.Chmod(dir, 0o777))
	if err := CheckTrust(dir+"/x/y/z", nil); err == nil {
		t.Error("somebody else can make it")
	}
	must(t, CheckTrust("/", nil))
}

func daemonIn(dir string) Daemon {
	return Daemon{Config: dir + "/config", State: dir + "/state", Run: dir + "/run", LogDir: dir + "/deep/log"}
}

func TestPrepareMakesDirectories(t *testing.T) {
	dir := ownDir(t)
	d := daemonIn(dir)
	must(t, Prepare(d))
	must(t, Prepare(d)) // again: nothing to do
	for path, mode := range map[string]os.FileMode{d.State: 0o700, d.Run: 0o750, d.LogDir: 0o750} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	d.State = dir + "/file"
	if err := Prepare(d); err == nil || !strings.Contains(err.Error(), "cannot use --state "+d.State+": it is not a directory") {
		t.Error(err)
	}
}

func TestPrepareKeepsWhatOthersMade(t *testing.T) {
	rootOnly(t)
	dir := ownDir(t)
	d := daemonIn(dir)
	must(t, os.MkdirAll(d.LogDir, 0o755))
	d.LogGroup, d.AdminGroup = "54321", "54321"
	must(t, Prepare(d))
	if info, _ := os.Stat(d.LogDir); info.Mode().Perm() != 0o755 || owner(info).Gid != 0 {
		t.Errorf("a directory that was there: %v %d", info.Mode(), owner(info).Gid)
	}
	if info, _ := os.Stat(d.Run); info.Mode().Perm() != 0o750 || owner(info).Gid != stranger {
		t.Errorf("a directory of ours: %v %d", info.Mode(), owner(info).Gid)
	}
	d.AdminGroup = "no such group"
	if err := Prepare(d); err == nil || !strings.Contains(err.Error(), `cannot use --admin-group "no such group": there is no such group`) {
		t.Error(err)
	}
}

func TestPrepareRefusesWhatOthersCanWrite(t *testing.T) {
	rootOnly(t)
	trusted := uint32(stranger)
	for _, part := range []string{"config", "config/a.cue", "state", "run", "deep", "deep/log"} {
		dir := ownDir(t)
		d := daemonIn(dir)
		must(t, os.Mkdir(d.Config, 0o755))
		must(t, os.WriteFile(d.Config+"/a.cue", nil, 0o644))
		must(t, Prepare(d))
		must(t, os.Chown(filepath.Join(dir, part), stranger, -1))
		err := Prepare(d)
		if err == nil || !strings.Contains(err.Error(), "/"+part) || !strings.Contains(err.Error(), "--trust-config 54321") {
			t.Errorf("%s: %v", part, err)
		}
		d.TrustConfig = &trusted
		must(t, Prepare(d))
	}
}

func TestPrepareJudgesFilesByTheirTarget(t *testing.T) {
	rootOnly(t)
	dir := ownDir(t)
	d := daemonIn(dir)
	must(t, os.MkdirAll(d.Config+"/.git/objects", 0o755))
	must(t, os.Chown(d.Config+"/.git/objects", stranger, -1))
	must(t, Prepare(d))
	must(t, os.WriteFile(dir+"/theirs.cue", nil, 0o644))
	must(t, os.Chown(dir+"/theirs.cue", stranger, -1))
	must(t, os.Symlink(dir+"/theirs.cue", d.Config+"/a.cue"))
	if err := Prepare(d); err == nil || !strings.Contains(err.Error(), dir+"/theirs.cue: it is owned by") {
		t.Error(err)
	}
}

// A directory that a link leads to is read as those that lie in the configuration,
// but need not be there for that only.
func TestPrepareJudgesWhatLinkedDirectoriesHave(t *testing.T) {
	rootOnly(t)
	dir := ownDir(t)
	d := daemonIn(dir)
	must(t, os.Mkdir(d.Config, 0o755))
	must(t, os.MkdirAll(dir+"/lib/deep", 0o755))
	must(t, os.WriteFile(dir+"/lib/theirs.log", nil, 0o644))
	must(t, os.Chown(dir+"/lib/theirs.log", stranger, -1))
	must(t, os.Symlink(dir+"/lib", d.Config+"/lib"))
	must(t, os.Symlink(dir+"/nowhere", d.Config+"/nowhere"))
	must(t, Prepare(d))
	must(t, d.CheckConfig())
	must(t, os.WriteFile(dir+"/lib/deep/a.cue", nil, 0o644))
	must(t, Prepare(d))
	must(t, os.Chown(dir+"/lib/deep/a.cue", stranger, -1))
	for _, err := range []error{Prepare(d), d.CheckConfig()} {
		if err == nil || !strings.Contains(err.Error(), "cannot use --config "+d.Config+": ") || !strings.Contains(err.Error(), "/lib/deep/a.cue: it is owned by") {
			t.Error(err)
		}
	}
}

// One directory that cannot be looked into hides nothing of the others, nor does
// one that goes while they are looked at.
func TestConfigThatCannotBeChecked(t *testing.T) {
	rootOnly(t)
	dir := ownDir(t)
	d := daemonIn(dir)
	must(t, os.Mkdir(d.Config, 0o755))
	must(t, os.WriteFile(d.Config+"/z.cue", nil, 0o644))
	tooDeep(t, d.Config+"/.deep")
	must(t, d.CheckConfig()) // nobody reads what is in there
	tooDeep(t, d.Config+"/deep")
	must(t, Prepare(d))
	if err := d.CheckConfig(); err == nil || !strings.Contains(err.Error(), "cannot use --config "+d.Config+": cannot check what is in it: ") ||
		!strings.Contains(err.Error(), "file name too long") {
		t.Error(err)
	}
	must(t, os.Chown(d.Config+"/z.cue", stranger, -1))
	if err := Prepare(d); err == nil || !strings.Contains(err.Error(), d.Config+"/z.cue: it is owned by") {
		t.Error(err)
	}
	for at, want := range map[string]bool{"/c": false, "/c/a": false, "/c/a/.b/c": true, "/c/.b": true} {
		if got := unread("/c", at, unix.EIO); got != want {
			t.Errorf("%s: %t", at, got)
		}
		if !unread("/c", at, &os.PathError{Op: "open", Path: at, Err: unix.ENOENT}) {
			t.Errorf("%s vanished", at)
		}
	}
}

// tooDeep makes a directory with a path below it that is longer than the kernel takes.
func tooDeep(t *testing.T, path string) {
	must(t, os.Mkdir(path, 0o755))
	at, err := unix.Open(path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	name := strings.Repeat("d", 255)
	for range 20 {
		must(t, unix.Mkdirat(at, name, 0o755))
		next, err := unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(at))
		at = next
	}
	must(t, unix.Close(at))
}

func TestFallbackRunDirectoryIsPrivate(t *testing.T) {
	d := Daemon{Run: fallbackRun(os.Geteuid())}
	if got := runMode(d, -1); got != 0o700 {
		t.Errorf("%v", got)
	}
	if got := runMode(d, 5); got != 0o750 {
		t.Errorf("with an admin group: %v", got)
	}
}

func TestFallbackRunDirectoryMustBeOurs(t *testing.T) {
	rootOnly(t)
	run := fallbackRun(stranger)
	must(t, os.Mkdir(run, 0o700))
	t.Cleanup(func() { os.Remove(run) })
	if got, err := ClientEndpoint(Client{}, stranger, env()); err == nil || !strings.Contains(err.Error(), "it is not a directory of uid 54321") {
		t.Errorf("a client trusts what root made in its place: %s, %v", got, err)
	}
	must(t, os.Chown(run, stranger, stranger))
	if _, err := ClientEndpoint(Client{}, stranger, env()); err != nil {
		t.Error(err)
	}
}
