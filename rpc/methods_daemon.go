package rpc

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

var daemonMethods = []Method{
	{
		Name: "dance", Access: AccessRead, Quick: true,
		Doc:     "Show that the daemon listens.",
		Result:  "`danced`, true.",
		Reply:   `{"danced": true}`,
		Handler: func(context.Context, *Call) (any, error) { return Map{{"danced", true}}, nil },
	},
	{
		Name: "version", Access: AccessRead, Quick: true,
		Doc:     "What runs here.",
		Result:  "`version`; `keeper`: pid; `control`: pid.",
		Reply:   `{"version": "1.0.0", "keeper": {"pid": 100}, "control": {"pid": 101}}`,
		Handler: version,
	},
	{
		Name: "traffic", Access: AccessRead, Quick: true,
		Doc:     "What went over the sockets since control began, and what did not.",
		Result:  "`requests` and `published` (events) that were served; `busy`: requests refused because too many waited; `unsent`: replies that nobody took; `dropped`: events that the queue had no room for.",
		Reply:   `{"requests": 7, "published": 3, "busy": 0, "unsent": 0, "dropped": 0}`,
		Handler: traffic,
	},
	{
		Name: "methods", Access: AccessRead, Quick: true,
		Doc:     "This table.",
		Result:  "`methods`, each: name, access (read, admin), doc, args (each: name, type, required, doc, and access when only administrators may give it), result, any_key, example (request and reply as JSON); `codes`, each: code, doc.",
		Reply:   `{"methods": [...], "codes": [...]}`,
		Handler: methods,
	},
	{
		Name: "schema", Access: AccessRead, // not quick: printing it may run a process
		Doc:     "The CUE schema that files are checked with.",
		Result:  "`schema`, the text.",
		Reply:   `{"schema": "#Program: {\n\tcommand!: string\n}\n"}`,
		Handler: schema,
	},
	{
		Name: "states", Access: AccessRead, Quick: true,
		Doc:     "The tables that the daemon runs on.",
		Args:    []Arg{{Name: "format", Type: TypeString, Doc: "`text` (default), `dot` or `markdown`"}},
		Result:  "`states`, the text.",
		Request: `{"format": "dot"}`,
		Reply:   `{"states": "digraph {}\n"}`,
		Handler: states,
	},
	{
		Name: "upgrade", Access: AccessAdmin,
		Doc:     "Run the binaries that are installed now, after they were asked what they can read; refused if they cannot take over. No program is touched; this connection may be lost.",
		Result:  "`upgrading`, true.",
		Reply:   `{"upgrading": true}`,
		Handler: upgrade,
	},
	{
		Name: "shutdown", Access: AccessAdmin,
		Doc:     "Stop every program in order and end the daemon, whatever `--on-exit` says. It holds also when control dies meanwhile.",
		Result:  "`shutting_down`, true; sent before it happens.",
		Reply:   `{"shutting_down": true}`,
		Handler: shutdown,
	},
}

func version(_ context.Context, c *Call) (any, error) {
	v := c.Backend.View()
	return Map{
		{"version", v.Version},
		{"keeper", Map{{"pid", v.KeeperPID}}},
		{"control", Map{{"pid", v.ControlPID}}},
	}, nil
}

func traffic(_ context.Context, c *Call) (any, error) {
	t := c.Server.Traffic()
	return Map{{"requests", t.Requests}, {"published", t.Published}, {"busy", t.Busy}, {"unsent", t.Unsent}, {"dropped", t.Dropped}}, nil
}

// methodsReply is encoded once: the table never changes.
var methodsReply = sync.OnceValues(func() ([]byte, error) {
	list := make([]Map, len(ordered))
	for i, m := range ordered {
		list[i] = m.describe()
	}
	codes := make([]Map, len(codeDocs))
	for i, c := range codeDocs {
		codes[i] = Map{{"code", string(c.Code)}, {"doc", c.Doc}}
	}
	return Append(nil, Map{{"methods", list}, {"codes", codes}})
})

func methods(context.Context, *Call) (any, error) {
	b, err := methodsReply()
	return Raw(b), err
}

func schema(_ context.Context, c *Call) (any, error) {
	if c.Server.Schema == nil {
		return nil, unavailable("schema")
	}
	text, err := c.Server.Schema()
	if err != nil {
		return nil, fmt.Errorf("cannot print the schema: %w", err)
	}
	return Map{{"schema", text}}, nil
}

func states(_ context.Context, c *Call) (any, error) {
	format := c.Args.Str("format")
	if format == "" {
		format = "text"
	}
	if len(c.Server.States) == 0 {
		return nil, unavailable("tables of states")
	}
	text, ok := c.Server.States[format]
	if !ok {
		return nil, Errorf(CodeBadArgument, "'format' must be one of %s, found '%s'", strings.Join(sortedKeys(c.Server.States), ", "), format)
	}
	return Map{{"states", text()}}, nil
}

func upgrade(ctx context.Context, c *Call) (any, error) {
	return Map{{"upgrading", true}}, c.Backend.Upgrade(ctx)
}

func shutdown(ctx context.Context, c *Call) (any, error) {
	return Map{{"shutting_down", true}}, c.Backend.Shutdown(ctx, c.by())
}
