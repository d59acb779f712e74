package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

func (a *app) statesCommand() *cobra.Command {
	var dot bool
	cmd := &cobra.Command{
		Use: "states", Short: "Print the table of states that every daemon of this version runs on", Args: cobra.NoArgs,
		Long: "Print the table of states that every daemon of this version runs on: what an\ninstance does next toward its goal, and what each fact makes of it.",
		RunE: func(*cobra.Command, []string) error {
			text := reconcile.States()
			if dot {
				text = reconcile.StatesDot()
			}
			return a.printDocument(map[string]any{"states": text}, "states")
		},
	}
	cmd.Flags().BoolVar(&dot, "dot", false, "as a graph for Graphviz: procnanny states --dot | dot -Tsvg")
	return cmd
}

// methodView is what the text view reads of a method.
type methodView struct {
	Name   string `json:"name"`
	Access string `json:"access"`
	Doc    string `json:"doc"`
	Args   []struct {
		Name     string `json:"name"`
		Type     string `json:"type"`
		Required bool   `json:"required"`
		Doc      string `json:"doc"`
	} `json:"args"`
	Result string `json:"result"`
	AnyKey string `json:"any_key"`
}

func (a *app) methodsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "methods [METHOD]", Short: "List what the daemon can be asked, or describe one method",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMethods,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.method(cmd.Context(), args[0])
			}
			var reply struct {
				Methods []methodView `json:"methods"`
			}
			return a.show(cmd.Context(), "methods", nil, &reply, func() error {
				return a.grid(methodsTable(reply.Methods))
			})
		},
	}
}

// method describes one method.
func (a *app) method(ctx context.Context, name string) error {
	tree, err := a.call(ctx, "methods", nil)
	if err != nil {
		return err
	}
	reply, _ := tree.(map[string]any)
	all, _ := reply["methods"].([]any)
	var known []string
	for _, one := range all {
		var m methodView
		if err := into(one, &m); err != nil {
			return err
		}
		if known = append(known, m.Name); m.Name == name {
			return a.emit(one, func() error { return a.methodText(m) })
		}
	}
	hint := "see procnanny methods"
	if n := spec.Nearest(name, known); n != "" {
		hint = "did you mean " + n + "?"
	}
	return fmt.Errorf("there is no method %q: %s", name, hint)
}

func methodsTable(list []methodView) *table {
	t := &table{head: []string{"METHOD", "ACCESS", "DOES"}}
	for _, m := range list {
		doc, _, _ := strings.Cut(m.Doc, ". ")
		t.add(plainCells(m.Name, m.Access, strings.TrimSuffix(doc, "."))...)
	}
	return t
}

func (a *app) methodText(m methodView) error {
	width := a.limit()
	for _, line := range fold(safe(fmt.Sprintf("%s (%s): %s", m.Name, m.Access, m.Doc)), width) {
		a.put(line)
	}
	t := &table{}
	for _, arg := range m.Args {
		need := "optional"
		if arg.Required {
			need = "required"
		}
		t.add(plainCells("  "+arg.Name, need, arg.Type, arg.Doc)...)
	}
	if m.AnyKey != "" {
		t.add(plainCells("  ...", "optional", "any key", m.AnyKey)...)
	}
	if err := a.grid(t); err != nil {
		return err
	}
	for _, line := range fold(safe("Replies "+m.Result), width) {
		a.put(line)
	}
	return nil
}

func completeMethods(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, m := range rpc.Methods() {
		out = append(out, m.Name+"\t"+m.Doc)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) callCommand() *cobra.Command {
	return &cobra.Command{
		Use: "call METHOD [KEY=VALUE]... | METHOD JSON", Short: "Call a method and print the reply as it is",
		Long: `Call a method and print the reply as it is, as JSON unless -o says otherwise. A
VALUE is JSON where it is JSON, else a string; or give all arguments as one map.`,
		Example: "  procnanny call status program=web\n  procnanny call restart '{\"program\": \"web\", \"instance\": 0}'",
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return completeMethods(cmd, args, word)
			}
			return argumentWords(args[0]), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ask, err := callArguments(args[1:])
			if err != nil {
				return err
			}
			tree, err := a.call(cmd.Context(), args[0], ask)
			if e, ok := errors.AsType[*rpc.Error](err); ok && e.Code == rpc.CodeNoSuchMethod {
				return fmt.Errorf("%w: see procnanny methods", err)
			}
			if err != nil {
				return err
			}
			return a.emit(tree, func() error { return writeJSON(a.out, tree) })
		},
	}
}

func argumentWords(method string) []string {
	m, ok := rpc.LookupMethod(method)
	if !ok {
		return nil
	}
	var out []string
	for _, arg := range m.Args {
		out = append(out, arg.Name+"=\t"+arg.Doc)
	}
	return out
}

// callArguments reads KEY=VALUE words, or one JSON map.
func callArguments(words []string) (map[string]any, error) {
	if len(words) == 1 && strings.HasPrefix(strings.TrimSpace(words[0]), "{") {
		m, ok := value(words[0]).(map[string]any)
		if !ok {
			return nil, errors.New("cannot read the arguments: this is no JSON map")
		}
		return m, nil
	}
	out := make(map[string]any, len(words))
	for _, w := range words {
		key, text, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("expected KEY=VALUE or one JSON map, found %q", w)
		}
		if key == "request" {
			return nil, errors.New("the method is the first word, and no argument")
		}
		out[key] = value(text)
	}
	return out, nil
}

func (a *app) upgradeCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Let the daemon run the binaries that are installed now", Args: cobra.NoArgs,
		Long: "Let the daemon run the binaries that are installed now. No program is touched.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.upgrade(cmd.Context(), f.wait) },
	}
	f.offerWait(cmd)
	return cmd
}

// upgrade asks for it, and with wait looks until another control process
// answers.
func (a *app) upgrade(ctx context.Context, wait bool) error {
	var before, after daemonVersion
	tree, err := a.call(ctx, "version", nil)
	if err == nil {
		err = into(tree, &before)
	}
	if err != nil {
		return err
	}
	if tree, err = a.call(ctx, "upgrade", nil); err != nil {
		return err
	}
	if !wait {
		return a.emit(tree, func() error { return a.say("upgrading: control process %d is replaced", before.Control.PID) })
	}
	err = a.until(ctx, func() bool {
		tree, err := a.call(ctx, "version", nil)
		return err == nil && into(tree, &after) == nil && after.Control.PID != before.Control.PID
	})
	if err != nil {
		return fmt.Errorf("cannot see the upgrade: %w", err)
	}
	return a.emit(tree, func() error {
		return a.say("upgraded: version %s, control process %d instead of %d", after.Version, after.Control.PID, before.Control.PID)
	})
}

func (a *app) shutdownCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "shutdown", Short: "Stop every program in order, and end the daemon", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.shutdown(cmd.Context(), f.wait) },
	}
	f.offerWait(cmd)
	return cmd
}

// shutdown asks for it, and with wait looks until nobody answers any more.
func (a *app) shutdown(ctx context.Context, wait bool) error {
	tree, err := a.call(ctx, "shutdown", nil)
	if err != nil {
		return err
	}
	if !wait {
		return a.emit(tree, func() error { return a.say("shutting down") })
	}
	err = a.until(ctx, func() bool {
		_, err := a.call(ctx, "dance", nil)
		var away *exit
		return errors.As(err, &away) && away.code == exitUnreachable
	})
	if err != nil {
		return fmt.Errorf("cannot see the end of the daemon: %w", err)
	}
	return a.emit(tree, func() error { return a.say("shut down") })
}

// lookEvery is how often we look where the daemon cannot wait for us.
const lookEvery = 50 * time.Millisecond

// until looks again until ok, at most as long as --timeout says.
func (a *app) until(ctx context.Context, ok func() bool) error {
	limit := a.waitFor()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("it had not happened after %v", limit)
			}
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	return nil
}

// shells print their own completion script.
var shells = map[string]func(root *cobra.Command, a *app) error{
	"bash": func(root *cobra.Command, a *app) error { return root.GenBashCompletionV2(a.out, true) },
	"zsh":  func(root *cobra.Command, a *app) error { return root.GenZshCompletion(a.out) },
	"fish": func(root *cobra.Command, a *app) error { return root.GenFishCompletion(a.out, true) },
}

func (a *app) completionCommand() *cobra.Command {
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use: "completion " + strings.Join(names, "|"), Short: "Print a script that completes commands, programs and instances",
		Long: `Print a script that completes commands, programs and instances. The one for bash
needs the package bash-completion.`,
		Example:   "  source <(procnanny completion bash)\n  procnanny completion fish > ~/.config/fish/completions/procnanny.fish",
		ValidArgs: names,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE:      func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root(), a) },
	}
}

// rawText is a wire value for a line of text.
func rawText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
