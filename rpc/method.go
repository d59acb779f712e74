package rpc

import (
	"context"
	"sort"
	"strings"
)

// Access says who may call a method or give an argument.
type Access string

// The accesses.
const (
	AccessRead  Access = "read"  // whoever can open the socket, and every allowed key
	AccessAdmin Access = "admin" // root, the daemon's own uid, the admin group, keys with that role
)

// Call is one request on its way through a handler.
type Call struct {
	// Server is who serves it; Backend is the server's.
	Server  *Server
	Backend Backend
	Peer    Peer
	Args    Args
	// Admin is whether the peer may do all.
	Admin bool
}

// Handler carries out one method. Its value must be one that [Append] takes.
type Handler func(ctx context.Context, c *Call) (any, error)

// Method is one row of the table.
type Method struct {
	Name   string
	Access Access
	Doc    string
	Args   []Arg
	// AnyKey is the doc of arguments beyond Args, when they mean something.
	AnyKey string
	// Result says what the reply holds.
	Result string
	// Request is an example of the arguments; Reply is what it gets, as JSON,
	// from the example picture of the tests.
	Request string
	Reply   string
	// Quick methods only read the picture: they may be served on the thread
	// that owns the sockets. A method with an argument that makes it slow names
	// it in SlowIf.
	Quick   bool
	SlowIf  string
	Handler Handler
}

// groups are the rows, group by group; see the methods_*.go files.
var groups = [][]Method{statusMethods, adminMethods, overrideMethods, configMethods, recordMethods, hookMethods, daemonMethods}

// table is every row by name. It is filled in init because `methods` itself
// reads it.
var (
	table   = map[string]*Method{}
	ordered []*Method
)

func init() {
	for _, g := range groups {
		for i := range g {
			table[g[i].Name] = &g[i]
			ordered = append(ordered, &g[i])
		}
	}
	sort.Slice(ordered, func(i, j int) bool { return ordered[i].Name < ordered[j].Name })
}

// Methods returns the table, sorted by name. It is not to be changed.
func Methods() []*Method { return ordered }

// LookupMethod returns the row of a name.
func LookupMethod(name string) (*Method, bool) {
	m, ok := table[name]
	return m, ok
}

// quick reports whether this request may be served on the sockets' thread.
func (m *Method) quick(request map[any]any) bool {
	if !m.Quick {
		return false
	}
	slow := request[m.SlowIf]
	return m.SlowIf == "" || slow == nil || slow == false
}

// describe is the row as the `methods` reply says it.
func (m *Method) describe() Map {
	args := make([]Map, len(m.Args))
	for i, a := range m.Args {
		args[i] = Map{{"name", a.Name}, {"type", a.typeText()}, {"required", a.Required}, {"doc", a.Doc}}
		if a.Admin {
			args[i] = append(args[i], Field{"access", string(AccessAdmin)})
		}
	}
	out := Map{{"name", m.Name}, {"access", string(m.Access)}, {"doc", m.Doc}, {"args", args}, {"result", m.Result}}
	if m.AnyKey != "" {
		out = append(out, Field{"any_key", m.AnyKey})
	}
	return append(out, Field{"example", Map{{"request", m.exampleRequest()}, {"reply", m.Reply}}})
}

// exampleRequest is the whole request of the example as JSON.
func (m *Method) exampleRequest() string {
	args := strings.TrimSuffix(strings.TrimPrefix(m.Request, "{"), "}")
	if args != "" {
		args = ", " + args
	}
	return `{"request": "` + m.Name + `"` + args + `}`
}

// The arguments that many methods share.
var (
	argProgram  = Arg{Name: "program", Type: TypeString, Required: true, Doc: "the program's name, exactly"}
	argInstance = Arg{Name: "instance", Type: TypeInt, Max: MaxIndex, Doc: "only this instance"}
	argTargets  = Arg{Name: "targets", Type: TypeStrings, Doc: "instead of program: `web`, `web/2`, globs such as `w*`, or `*`"}
	argUntil    = Arg{Name: "until", Type: TypeUntil, Doc: "when it ends by itself: a duration from now, or `boot`"}
	argReason   = Arg{Name: "reason", Type: TypeString, Max: 1000, Doc: "why, for whoever reads `status` later"}
	argWait     = Arg{Name: "wait", Type: TypeBool, Doc: "send the reply when it has happened"}
	argTimeout  = Arg{Name: "timeout", Type: TypeDuration, Max: 3600, Doc: "how long `wait` waits at most; 60s"}
)

// optional is a with Required false.
func optional(a Arg) Arg {
	a.Required = false
	return a
}
