package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

func (a *app) setCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "set PROGRAM KEY=VALUE...", Short: "Set keys of a program on top of the files",
		Long: `Set keys of a program on top of the files, until the file's own value changes.

A KEY may be a path into a map (limits.nofile=1024). A VALUE is as in a file:
JSON where it is JSON, else a string; null gives the key its default. What a
change costs is as if it stood in the file. Several keys are one change: all of
them are set, or none.`,
		Example:           "  procnanny set web nice=5 limits.nofile=65536\n  procnanny set web 'args=[\"-v\"]' --wait",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeSet,
		RunE: func(cmd *cobra.Command, args []string) error {
			words := args[1:]
			if len(words) == 2 && !strings.Contains(words[0], "=") {
				words = []string{words[0] + "=" + words[1]} // KEY VALUE
			}
			fields, err := pairs(words)
			if err != nil {
				return err
			}
			return a.set(cmd.Context(), &f, args[0], fields)
		},
	}
	f.offerWait(cmd)
	f.offerWhy(cmd)
	return cmd
}

func (a *app) completeSet(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeTargets(false, 1)(cmd, args, word)
	}
	return keyWords(), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// keyWords are the keys of a program, ready for a value.
func keyWords() []string {
	var out []string
	for _, k := range spec.Keys() {
		out = append(out, k+"=")
	}
	return out
}

// set sets all the keys, or none.
func (a *app) set(ctx context.Context, f *changeFlags, program string, fields map[string]any) error {
	keys := slices.Sorted(maps.Keys(fields))
	ask := map[string]any{"program": program, "fields": fields}
	if len(keys) == 1 {
		ask = map[string]any{"program": program, "field": keys[0], "value": fields[keys[0]]}
	}
	ask, err := f.add(a, ask)
	if err != nil {
		return err
	}
	tree, err := a.call(ctx, "set", ask)
	if err != nil {
		return err
	}
	return a.emit(tree, func() error {
		for _, key := range keys {
			if err := a.say("%s: %s is set", program, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// pairs reads KEY=VALUE words about a program.
func pairs(words []string) (map[string]any, error) {
	out := make(map[string]any, len(words))
	for _, w := range words {
		key, text, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("expected KEY=VALUE, found %q", w)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s is given twice", key)
		}
		out[key] = programValue(key, text)
	}
	return out, nil
}

// programValue reads a value of a program's key. Where only a string makes
// sense, digits are one: env.PORT=80, user=1000.
func programValue(key, text string) any {
	if (stringKeys()[key] || strings.HasPrefix(key, "env.")) && text != "null" {
		return text
	}
	return value(text)
}

// stringKeys are the keys whose values are strings, as the types say.
var stringKeys = sync.OnceValue(func() map[string]bool {
	out := map[string]bool{}
	for _, t := range []reflect.Type{reflect.TypeFor[spec.Launch](), reflect.TypeFor[spec.Tuning](), reflect.TypeFor[spec.Policy]()} {
		for field := range t.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if field.Type.Kind() == reflect.String {
				out[key] = true
			}
		}
	}
	return out
})

func (a *app) createCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "create PROGRAM [KEY=VALUE]... -- COMMAND [ARG]...", Short: "Create a program that no file defines",
		Long: `Create a program that no file defines, and start it. It survives restarts of the
daemon until it is deleted or a file defines it. Every key of a file may be set,
as with set.`,
		Example: "  procnanny create nap instances=2 nice=5 env.TZ=UTC -- sleep 60",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 1 || dash >= len(args) {
				return errors.New("expected PROGRAM [KEY=VALUE]... -- COMMAND and its arguments")
			}
			fields, err := pairs(args[1:dash])
			if err != nil {
				return err
			}
			ask, err := nested(fields)
			if err != nil {
				return err
			}
			ask["program"], ask["command"] = args[0], args[dash]
			if rest := args[dash+1:]; len(rest) > 0 {
				ask["args"] = rest
			}
			if ask, err = f.add(a, ask); err != nil {
				return err
			}
			return a.done(cmd.Context(), "create", ask, args[0]+": created")
		},
	}
	f.offerWait(cmd)
	f.offerWhy(cmd)
	return cmd
}

// nested puts keys with dots into maps: a new program has no others.
func nested(fields map[string]any) (map[string]any, error) {
	out := map[string]any{}
	for _, path := range slices.Sorted(maps.Keys(fields)) { // limits before limits.nofile
		keys, m := strings.Split(path, "."), out
		for _, key := range keys[:len(keys)-1] {
			if m[key] == nil {
				m[key] = map[string]any{}
			}
			next, ok := m[key].(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%s cannot be set beside %s", path, key)
			}
			m = next
		}
		m[keys[len(keys)-1]] = fields[path]
	}
	return out, nil
}

func (a *app) deleteCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "delete PROGRAM", Short: "Delete a program that was created, and stop it",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(false, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask, err := f.add(a, map[string]any{"program": args[0]})
			if err != nil {
				return err
			}
			return a.done(cmd.Context(), "delete", ask, args[0]+": deleted")
		},
	}
	f.offerWait(cmd)
	return cmd
}

func (a *app) overridesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "overrides [PROGRAM]", Short: "List what was set by hand on top of the files",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeTargets(false, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ask map[string]any
			if len(args) > 0 {
				ask = map[string]any{"program": args[0]}
			}
			var reply struct {
				Overrides []overrideView `json:"overrides"`
			}
			return a.show(cmd.Context(), "overrides", ask, &reply, func() error {
				if len(reply.Overrides) == 0 {
					return a.say("nothing is overridden")
				}
				return a.grid(overridesTable(reply.Overrides))
			})
		},
	}
}

func overridesTable(list []overrideView) *table {
	t := &table{head: []string{"PROGRAM", "KEY", "VALUE", "FILE SAYS", "SINCE", "BY", "UNTIL", "REASON"}}
	for _, o := range list {
		name := o.Program
		if o.Instance != nil {
			name = reconcile.InstanceID{Program: o.Program, Index: *o.Instance}.String()
		}
		t.add(plainCells(name, o.Field, wireText(o.Value), wireText(o.Replaced), clock(o.At), o.By.text(), o.until(), o.Reason)...)
	}
	return t
}

// until is when an override ends by itself.
func (o overrideView) until() string {
	switch u := o.Until.(type) {
	case string:
		return u
	case float64:
		return clock(u)
	}
	return ""
}

// wireText is a value of a file on one line; empty when there is none.
func wireText(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	return plainJSON(raw)
}

func (a *app) resetCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "reset PROGRAM [KEY]", Short: "Take overrides away, so that the files hold again",
		Long: `Take overrides away, so that the files hold again: all of a program, or one KEY
(admin is stops and starts). A program that was created stays; see delete.`,
		Args: cobra.MaximumNArgs(2), ValidArgsFunction: a.completeTargets(false, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask, err := f.add(a, map[string]any{})
			switch {
			case err != nil:
				return err
			case f.all && len(args) > 0:
				return errors.New("cannot use --all beside a program")
			case f.all:
				ask["all"] = true
			case len(args) == 0:
				return errors.New("expected a program, or --all")
			default:
				ask["program"] = args[0]
			}
			if len(args) == 2 {
				ask["field"] = args[1]
			}
			return a.reset(cmd.Context(), ask)
		},
	}
	f.offerAll(cmd)
	f.offerWait(cmd)
	return cmd
}

func (a *app) reset(ctx context.Context, ask map[string]any) error {
	var reply struct {
		Reset []overrideView `json:"reset"`
	}
	return a.show(ctx, "reset", ask, &reply, func() error {
		for _, o := range reply.Reset {
			if err := a.say("%s: %s is no longer overridden", o.Program, o.Field); err != nil {
				return err
			}
		}
		if len(reply.Reset) == 0 {
			return a.say("nothing was overridden")
		}
		return nil
	})
}

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export [PROGRAM]", Short: "Print desired state, overrides included, as CUE",
		Long: "Print desired state, overrides included, as CUE that can be committed. It shows\nvalues of env.",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeTargets(false, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ask map[string]any
			if len(args) > 0 {
				ask = map[string]any{"program": args[0]}
			}
			return a.document(cmd.Context(), "export", "cue", ask)
		},
	}
}
