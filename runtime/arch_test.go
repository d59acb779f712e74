package runtime_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/procnanny/procnanny"

// room says which packages of ours a package may import, and why not others.
type room struct {
	may []string
	why string
}

// rooms is the import table. A package that is not in it fails the test: a new
// room is a decision.
var rooms = map[string]room{
	"spec":          {may: nil, why: "what the user wants is plain values, known to all and knowing nobody"},
	"spec/specfile": {may: []string{"spec"}, why: "files become values here; nobody who runs things is needed for that"},
	"reconcile":     {may: []string{"spec"}, why: "the core decides from values alone, so that any history can be replayed"},

	"runtime":            {may: nil, why: "only a doc.go"},
	"runtime/place":      {may: []string{"spec"}, why: "flags and directories, for the three commands that have them"},
	"runtime/lean":       {may: nil, why: "memory is given back, and sleepers wake together, without knowing whose"},
	"runtime/crashpoint": {may: nil, why: "a process ends at a named step, whoever's step it is"},
	"runtime/oom":        {may: nil, why: "a process's own score, whoever it is"},
	"runtime/launch":     {may: []string{"spec", "runtime/oom"}, why: "it starts what it is told and does not know why"},
	"runtime/output":     {may: []string{"spec", "runtime/crashpoint"}, why: "it moves bytes and does not know whose"},
	"runtime/keeper":     {may: []string{"spec", "runtime/crashpoint", "runtime/launch", "runtime/lean", "runtime/oom", "runtime/output"}, why: "the keeper must never die, so it decides nothing and parses nothing from outside"},
	"runtime/proc":       {may: []string{"spec", "reconcile", "runtime/keeper", "runtime/launch"}, why: "actions become the keeper's orders here; launch only for the request that an order carries"},
	"runtime/daemontest": {may: nil, why: "tests start the real commands with it; it is in none of them"},
	"runtime/doctor":     {may: []string{"runtime/keeper", "runtime/oom", "runtime/place"}, why: "it tries what the keeper will do, with the keeper's own means"},
	"runtime/store":      {may: []string{"spec", "reconcile", "runtime/crashpoint"}, why: "it keeps values and starts nothing"},
	"runtime/watch":      {may: []string{"spec", "runtime/lean", "runtime/oom"}, why: "it says what the files say, not what to do about it"},
	"runtime/sink":       {may: []string{"spec", "reconcile", "runtime/crashpoint"}, why: "it consumes events and cannot answer"},
	"runtime/control":    {may: []string{"spec", "reconcile", "rpc", "runtime/crashpoint", "runtime/engine", "runtime/keeper", "runtime/lean", "runtime/output", "runtime/place", "runtime/proc", "runtime/sink", "runtime/store", "runtime/watch"}, why: "the reconciler's process, assembled: desired state meets the engine, the methods meet both"},
	"runtime/sim":        {may: []string{"spec", "reconcile", "runtime/engine", "runtime/keeper", "runtime/proc"}, why: "the real engine and proc against a model of the keeper, for which it speaks the keeper's protocol"},
	"runtime/engine":     {may: []string{"spec", "reconcile"}, why: "the single writer declares the interfaces it needs, so that tests can fake the world"},

	"rpc":     {may: []string{"spec", "reconcile"}, why: "methods stand on rpc.Backend, not on the engine"},
	"rpc/zmq": {may: []string{"rpc"}, why: "a transport moves bytes"},

	"cmd/procnannyd":        {may: []string{"runtime/keeper", "runtime/oom", "runtime/place"}, why: "the keeper's process"},
	"cmd/procnanny-control": {may: []string{"rpc", "rpc/zmq", "runtime/control", "runtime/crashpoint", "runtime/keeper", "runtime/oom", "runtime/place"}, why: "flags, the keeper's socket and the transports are wired here"},
	"cmd/procnanny-eval":    {may: []string{"spec/specfile"}, why: "one evaluation, then gone: it needs nothing else"},
	"cmd/procnanny":         {may: []string{"spec", "reconcile", "rpc", "rpc/zmq", "runtime/doctor", "runtime/launch", "runtime/place", "runtime/sim", "runtime/watch"}, why: "the client; watch because vet reads files as the daemon does, launch because it asks what the host permits, sim to foretell"},

	"examples":            {may: nil, why: "only tests"},
	"examples/clients/go": {may: nil, why: "a client with plain libraries, to be copied"},
}

// library is a dependency that only some rooms may import.
type library struct {
	rooms []string
	why   string
}

var libraries = map[string]library{
	"cuelang.org/go":               {[]string{"spec/specfile", "cmd/procnanny-eval"}, "CUE evaluates what others wrote: only the limited child links it"},
	"github.com/pebbe/zmq4":        {[]string{"rpc/zmq", "examples/clients/go"}, "sockets belong to one locked thread"},
	"github.com/vmihailenco":       {[]string{"rpc", "rpc/zmq", "runtime/store", "examples/clients/go"}, "every decode of outside bytes stands behind rpc's guard"},
	"go.etcd.io/bbolt":             {[]string{"runtime/store"}, "the file format is the store's own business"},
	"github.com/fsnotify/fsnotify": {[]string{"runtime/watch"}, "one place knows how editors save"},
	"github.com/spf13/cobra":       {[]string{"cmd/procnanny"}, "only the client has a command tree"},
	"gopkg.in/yaml.v3":             {[]string{"cmd/procnanny", "spec/specfile"}, "written for people by the client; read by the evaluator"},
	"golang.org/x/sys":             {[]string{"runtime/", "rpc/zmq", "cmd/"}, "spec, reconcile and rpc are pure"},
	"golang.org/x/term":            {[]string{"cmd/"}, "only commands have a terminal"},
}

// forbidden are packages of the standard library that a room does not import
// itself (what its imports link is not its doing).
var forbidden = map[string]library{
	"spec":      {[]string{"os", "net", "syscall", "os/exec"}, "plain values and pure functions"},
	"reconcile": {[]string{"os", "io", "net", "sync", "context", "log", "math/rand", "syscall", "runtime", "unsafe"}, "the core is pure: time is an argument, ids are counters, jitter is a hash"},
	"rpc":       {[]string{"os", "os/exec", "syscall"}, "methods stand on rpc.Backend"},
}

// unlinked are libraries that must not be in a command at all, by any way.
var unlinked = map[string]library{
	"cmd/procnannyd":        {[]string{"cuelang.org/go", "github.com/pebbe/zmq4", "github.com/vmihailenco", "go.etcd.io/bbolt", "github.com/fsnotify/fsnotify", "gopkg.in/yaml.v3", "net/http"}, "the keeper parses no outside data and must never die"},
	"cmd/procnanny-control": {[]string{"cuelang.org/go"}, "an evaluation bomb must not reach the reconciler's memory"},
	"cmd/procnanny":         {[]string{"cuelang.org/go", "go.etcd.io/bbolt"}, "a client starts in milliseconds"},
	"cmd/procnanny-eval":    {[]string{"github.com/pebbe/zmq4", "go.etcd.io/bbolt"}, "the evaluator talks through its pipe only"},
}

// listed is what `go list -json` says about a package.
type listed struct {
	ImportPath, Dir, Doc, Name string
	Imports, Deps              []string
	GoFiles, CgoFiles          []string
	TestGoFiles, XTestGoFiles  []string
}

func (l listed) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, module), "/")
}

// ours lists every package of the module.
var ours = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Name,Imports,Deps,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var l listed
		if err := dec.Decode(&l); err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
})

func packages(t *testing.T) []listed {
	t.Helper()
	all, err := ours()
	if err != nil {
		t.Fatalf("cannot list the packages: %v", err)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// within reports whether path is base or below it.
func within(path, base string) bool {
	return path == base || strings.HasPrefix(path, strings.TrimSuffix(base, "/")+"/")
}

func TestEveryPackageHasARoom(t *testing.T) {
	for _, p := range packages(t) {
		if _, ok := rooms[p.room()]; !ok {
			t.Errorf("%s is not in the import table: add a row that says what it may import, and why", p.room())
		}
	}
}

// roots are the directories at the top that hold packages.
var roots = []string{"cmd", "examples", "reconcile", "rpc", "runtime", "spec"}

func TestNothingElseIsAtTheTop(t *testing.T) {
	for _, l := range packages(t) {
		if root, _, _ := strings.Cut(l.room(), "/"); !slices.Contains(roots, root) {
			t.Errorf("%s: a package belongs into one of %v", l.room(), roots)
		}
	}
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		r := rooms[p.room()]
		for _, imp := range p.Imports {
			other, ok := strings.CutPrefix(imp, module+"/")
			if ok && !slices.Contains(r.may, other) {
				t.Errorf("%s imports %s; it may import %v: %s", p.room(), other, r.may, r.why)
			}
		}
	}
}

// A permission that nobody uses is a wall that has moved: take it out of the row.
func TestRoomsUseWhatTheyMay(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		seen[p.room()] = true
		for _, may := range rooms[p.room()].may {
			if !slices.Contains(p.Imports, module+"/"+may) {
				t.Errorf("%s may import %s, and does not", p.room(), may)
			}
		}
	}
	for name := range rooms {
		if !seen[name] {
			t.Errorf("%s is in the table, and is no package", name)
		}
	}
}

func TestLibrariesStayInTheirRooms(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for name, lib := range libraries {
				allowed := slices.ContainsFunc(lib.rooms, func(r string) bool {
					return r == p.room() || strings.HasSuffix(r, "/") && within(p.room(), r)
				})
				if within(imp, name) && !allowed {
					t.Errorf("%s imports %s, which only %v may: %s", p.room(), imp, lib.rooms, lib.why)
				}
			}
		}
	}
}

func TestPureRoomsStayPure(t *testing.T) {
	for _, p := range packages(t) {
		f := forbidden[p.room()]
		for _, imp := range p.Imports {
			if slices.ContainsFunc(f.rooms, func(bad string) bool { return within(imp, bad) }) {
				t.Errorf("%s imports %s: %s", p.room(), imp, f.why)
			}
		}
	}
}

func TestCommandsDoNotLink(t *testing.T) {
	for _, p := range packages(t) {
		u := unlinked[p.room()]
		for _, dep := range p.Deps {
			if slices.ContainsFunc(u.rooms, func(bad string) bool { return within(dep, bad) }) {
				t.Errorf("%s links %s: %s", p.room(), dep, u.why)
			}
		}
	}
}

// The checks above can fail: each finds the breach it is there for.
func TestTheTableBites(t *testing.T) {
	if !within("cuelang.org/go/cue/load", "cuelang.org/go") || within("os/exec2", "os/exec") || within("osx", "os") {
		t.Error("within does not tell a package below from one that only begins alike")
	}
	for name, r := range rooms {
		for _, may := range r.may {
			if _, ok := rooms[may]; !ok {
				t.Errorf("%s may import %s, which is no room", name, may)
			}
			if slices.Contains(rooms[may].may, name) {
				t.Errorf("%s and %s may import each other", name, may)
			}
		}
		if r.why == "" {
			t.Errorf("%s has no reason", name)
		}
	}
}
