package rpc

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// LogQuery selects output of one instance. Offsets count the child's bytes
// over the instance's whole life.
type LogQuery struct {
	Program  string
	Instance int
	Stream   string // "", stdout, stderr
	// Offset is where to begin; nil is the oldest kept byte, or the end less
	// Tail when Tail is set.
	Offset *int64
	Limit  int // bytes at most
	// Tail is how many of the last lines to begin with; 0 is not asked.
	Tail int
	// Since, Until and Run narrow all that to what came then, to a second, and
	// to one run's own output; zero is no bound.
	Since, Until time.Time
	Run          uint64
}

// LogChunk is what was read: Data begins at Offset, and Next is where to go on.
type LogChunk struct {
	Data   []byte
	Offset int64
	Next   int64
	// End is where the range ends now.
	End int64
	// Marks date Data: the last mark at or before Offset, then those within.
	Marks []LogMark
}

// LogMark says that the bytes from Offset on came at Time or later, of Run (0:
// not known).
type LogMark struct {
	Offset int64
	Time   time.Time
	Run    uint64
}

// LogReader reads what instances wrote.
type LogReader interface {
	ReadLog(ctx context.Context, q LogQuery) (LogChunk, error)
}

// Options make a Server. All fields but Backend may be zero: a method that
// needs a missing one answers "unavailable".
type Options struct {
	Backend Backend
	Logs    LogReader
	Access  Rights
	// Schema makes the text that `schema` serves.
	Schema func() (string, error)
	// CUE prints a specification for `export`.
	CUE func(spec.Spec) string
	// States prints the core's tables for `states`, by format.
	States map[string]func() string
	// Traffic says what the transports have done so far, for `traffic`; nil: nothing.
	Traffic func() Traffic
	// OnRefusal is told of each act that was refused for want of rights. It is
	// called on the sockets' thread and must not block.
	OnRefusal func(Refusal)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Traffic is what a transport has done, and what it did not.
type Traffic struct {
	// Requests and Published count what was served.
	Requests, Published uint64
	// Busy are requests refused because too many waited, Unsent replies that
	// their client never took, Dropped events that the queue had no room for.
	Busy, Unsent, Dropped uint64
}

// Server turns requests into replies. Its methods may be called from many
// goroutines.
type Server struct {
	Options
	status StatusCache
}

// NewServer makes a server.
func NewServer(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Traffic == nil {
		o.Traffic = func() Traffic { return Traffic{} }
	}
	if o.OnRefusal == nil {
		o.OnRefusal = func(Refusal) {}
	}
	return &Server{Options: o}
}

// RequestHandler is what a transport needs of a Server.
type RequestHandler interface {
	// Begin looks at a request. Either it has the reply at once, or it returns
	// the work to do for it, which may take long and must be called once.
	Begin(peer Peer, msg []byte) (reply []byte, work func(ctx context.Context) []byte)
	// Refused is told what the transport itself refused.
	Refused(r Refusal)
}

// Refused implements RequestHandler.
func (s *Server) Refused(r Refusal) { s.OnRefusal(r) }

// Serve turns one request into its reply. It never panics, and whatever msg
// is, the reply is a complete message.
func (s *Server) Serve(ctx context.Context, peer Peer, msg []byte) []byte {
	reply, work := s.Begin(peer, msg)
	if work != nil {
		return work(ctx)
	}
	return reply
}

// Begin implements RequestHandler: what only reads the picture is answered at
// once, the rest is work. It never blocks.
func (s *Server) Begin(peer Peer, msg []byte) (reply []byte, work func(ctx context.Context) []byte) {
	if !s.Access.Read(peer) {
		return s.stranger(peer), nil
	}
	if len(msg) > quickRequest {
		return nil, func(ctx context.Context) []byte {
			reply, work := s.begin(peer, msg)
			if work != nil {
				return work(ctx)
			}
			return reply
		}
	}
	return s.begin(peer, msg)
}

// stranger refuses whoever may not ask anything.
func (s *Server) stranger(peer Peer) []byte {
	why := "the connection does not say whose it is"
	if peer.Key != "" {
		why = "this key is not allowed any more"
	}
	s.OnRefusal(Refusal{Peer: peer, Act: ActRequest, Why: why})
	return Errorf(CodeForbidden, "%s", why).reply(nil)
}

// quickRequest is how long a request may be that is decoded on the sockets'
// thread: nobody's megabyte of small values holds up the others.
const quickRequest = 4 << 10

func (s *Server) begin(peer Peer, msg []byte) (reply []byte, work func(ctx context.Context) []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("a request made the decoder panic", "panic", p, "stack", string(debug.Stack()))
			reply, work = Errorf(CodeInternal, "a defect in the decoder: %v", p).reply(nil), nil
		}
	}()
	if err := Guard(msg); err != nil {
		code := CodeUndecodable
		if len(msg) > MaxRequest {
			code = CodeTooLarge
		}
		return Errorf(code, "cannot decode the request: %v", err).reply(nil), nil
	}
	request, err := decodeRequest(msg)
	if err != nil {
		return Errorf(CodeUndecodable, "cannot decode the request: %v", err).reply(nil), nil
	}
	m, refusal := lookup(request)
	if refusal != nil {
		return refusal.reply(msg), nil
	}
	work = func(ctx context.Context) []byte { return s.run(ctx, m, peer, request, msg) }
	if m.quick(request) {
		return work(context.Background()), nil
	}
	return nil, work
}

func lookup(request map[any]any) (*Method, *Error) {
	name, ok := asString(request["request"])
	if !ok {
		return nil, Errorf(CodeNoRequestField, "Message had no 'request' field")
	}
	m, ok := table[name]
	if !ok {
		return nil, Errorf(CodeNoSuchMethod, "No such method requested")
	}
	return m, nil
}

// run carries out one request. A panic in it is a defect, told to the log and
// to this client only.
func (s *Server) run(ctx context.Context, m *Method, peer Peer, request map[any]any, msg []byte) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("a request made a method panic", "method", m.Name, "panic", p, "stack", string(debug.Stack()))
			reply = Errorf(CodeInternal, "a defect in %s: %v", m.Name, p).reply(msg)
		}
	}()
	v, err := s.call(ctx, m, peer, request)
	if err == nil {
		var b []byte
		if b, err = encodeReply(v); err == nil {
			return b
		}
	}
	e := asError(err)
	if e.Code == CodeForbidden {
		s.OnRefusal(Refusal{Peer: peer, Act: ActMethod, Method: m.Name, Why: e.Message})
	}
	return e.reply(msg)
}

// encodeReply hands on what is encoded already without a copy.
func encodeReply(v any) ([]byte, error) {
	b, ok := v.(Raw)
	if !ok {
		var err error
		if b, err = Append(nil, v); err != nil {
			return nil, err
		}
	}
	if len(b) > MaxReply {
		return nil, Errorf(CodeTooLarge, "the reply would have %d bytes, the limit is %d: ask for less", len(b), MaxReply)
	}
	return b, nil
}

// admins are who may do all, in words.
const admins = "root, the daemon's own uid, its admin group and keys with the role admin"

func (s *Server) call(ctx context.Context, m *Method, peer Peer, request map[any]any) (any, error) {
	// A quick method asks for rights only when its row demands them: looking up
	// groups may be slow.
	admin := needsRights(m) && s.Access.Admin(peer)
	if m.Access == AccessAdmin && !admin {
		return nil, Errorf(CodeForbidden, "%s may not %s: only %s may", peer, m.Name, admins)
	}
	args, err := m.checkArgs(request, admin)
	if err != nil {
		return nil, err
	}
	c := &Call{Server: s, Backend: s.Backend, Peer: peer, Args: args, Admin: admin}
	if m.AnyKey != "" {
		if c.Args, err = m.withOtherKeys(args, request); err != nil {
			return nil, err
		}
	}
	return m.Handler(ctx, c)
}

func needsRights(m *Method) bool {
	if m.Access == AccessAdmin {
		return true
	}
	for _, a := range m.Args {
		if a.Admin {
			return true
		}
	}
	return false
}

// otherKeys is where withOtherKeys puts what a row does not name. Only names of
// a row get into Args otherwise, and no row has this one.
const otherKeys = "\x00other"

// withOtherKeys adds the keys beyond the row's own.
func (m *Method) withOtherKeys(args Args, request map[any]any) (Args, error) {
	other := map[string]any{}
	for k, v := range request {
		key, ok := k.(string)
		if !ok {
			return nil, Errorf(CodeBadArgument, "a key must be a string, found %s", describe(k))
		}
		if named := slices.ContainsFunc(m.Args, func(a Arg) bool { return a.Name == key }); !named && key != "request" {
			other[key] = v
		}
	}
	args[otherKeys] = other
	return args, nil
}

// by says who asks.
func (c *Call) by() spec.Requester {
	if c.Peer.Key != "" {
		return spec.Requester{How: "rpc", UID: -1, GID: -1, Key: cmp.Or(c.Peer.Name, c.Peer.Key)}
	}
	return spec.Requester{How: "rpc", UID: int(c.Peer.UID), GID: int(c.Peer.GID), PID: c.Peer.PID}
}

func (c *Call) now() time.Time { return c.Server.Now() }

// program finds a program of the picture.
func (c *Call) program(name string) (*ProgramView, error) {
	if p := c.Backend.View().Program(name); p != nil {
		return p, nil
	}
	return nil, noProgram(name)
}

// noProgram says that there is none, and why there cannot be one: an instance or a
// glob is no program.
func noProgram(name string) error {
	if err := spec.CheckName(name); err != nil && name != "" {
		return Errorf(CodeNotFound, "there is no program '%s': %v", name, err)
	}
	return Errorf(CodeNotFound, "there is no program '%s'", name)
}

// unavailable says that this daemon was built or started without something.
func unavailable(what string) error { return Errorf(CodeUnavailable, "this daemon has no %s", what) }

func idText(program string, index int) string {
	return fmt.Sprint(reconcile.InstanceID{Program: program, Index: index})
}
