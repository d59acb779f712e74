package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
)

// statusFlags are what `status` was asked.
type statusFlags struct {
	watch, every, fresh, check, all bool
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status [TARGET]...",
		Short: "Show what runs",
		Long: `Show what runs, and whether it is what shall run.

Of a program with many instances, neighbours that are alike share a row; name
the program, or say --every, to see each of them.` + checkText,
		ValidArgsFunction: a.completeTargets(true, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := wantedTargets(args, f.all)
			if err != nil {
				return err
			}
			if f.watch && f.check {
				return errors.New("cannot use --check beside --watch")
			}
			if f.watch {
				return a.watchStatus(cmd.Context(), f, want)
			}
			tree, err := a.call(cmd.Context(), "status", f.args())
			if err != nil {
				return err
			}
			return a.showStatus(a.out, tree, f, want)
		},
		Example: "  procnanny status web -o json\n  procnanny status --check web && echo it runs",
	}
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "keep looking, until ctrl-C")
	cmd.Flags().BoolVar(&f.every, "every", false, "a row for each instance, however many there are")
	cmd.Flags().BoolVar(&f.check, "check", false, "exit with 4 when something that shall be up does not run")
	cmd.Flags().BoolVar(&f.all, "all", false, "every program, as without a target")
	cmd.Flags().BoolVar(&f.fresh, "fresh", false, "read from the kernel now what it says of each process")
	return cmd
}

func (f statusFlags) args() map[string]any {
	if f.fresh {
		return map[string]any{"fresh": true}
	}
	return nil
}

// showStatus prints a status reply as the user wants it.
func (a *app) showStatus(w io.Writer, tree any, f statusFlags, want []pattern) error {
	s := statusText{now: a.now(), want: want, every: f.every}
	if err := into(tree, &s.reply); err != nil {
		return err
	}
	if err := missing(want, s.reply.Programs); err != nil {
		return err
	}
	err := a.emit(only(tree, want), func() error {
		_, err := io.WriteString(w, strings.Join(s.lines(a.paint(), a.limit()), "\n")+"\n")
		return err
	})
	if err != nil || !f.check {
		return err
	}
	return checked(s.reply, want)
}

// lines is the whole text view, laid out for a terminal of limit columns; 0 is
// no limit.
func (s *statusText) lines(p painter, limit int) []string {
	head := &table{}
	for _, line := range s.header() {
		head.addAcross(0, line)
	}
	var b strings.Builder
	_ = head.write(&b, p, limit) // a strings.Builder takes everything
	if t := s.table(limit); len(t.rows) > 0 {
		b.WriteByte('\n')
		_ = t.write(&b, p, limit)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// only is a status reply with what is wanted of it.
func only(tree any, want []pattern) any {
	reply, _ := tree.(map[string]any)
	programs, _ := reply["programs"].(map[string]any)
	if len(want) == 0 || programs == nil {
		return tree
	}
	kept := map[string]any{}
	for name, v := range programs {
		if p, ok := v.(map[string]any); ok && wanted(want, name) {
			kept[name] = onlyInstances(name, p, want)
		}
	}
	out := maps.Clone(reply)
	out["programs"] = kept
	return out
}

func onlyInstances(name string, program map[string]any, want []pattern) map[string]any {
	instances, _ := program["instances"].(map[string]any)
	kept := map[string]any{}
	for key, v := range instances {
		var index int
		if _, err := fmt.Sscan(key, &index); err == nil && wantedInstance(want, name, index) {
			kept[key] = v
		}
	}
	out := maps.Clone(program)
	out["instances"] = kept
	return out
}

// maxWords bounds what completion offers.
const maxWords = 500

// targetWords are the targets that begin with word: programs, and the instances
// of one once its name and a slash are written.
func targetWords(reply statusReply, instances bool, word string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(reply.Programs)) {
		if safe(name) != name || len(out) >= maxWords {
			continue // never into a shell's line
		}
		if !strings.HasPrefix(word, name+"/") || !instances {
			out = append(out, name)
			continue
		}
		for _, index := range slices.Sorted(maps.Keys(reply.Programs[name].Instances)) {
			out = append(out, reconcile.InstanceID{Program: name, Index: index}.String())
		}
	}
	return slices.DeleteFunc(out, func(w string) bool { return !strings.HasPrefix(w, word) })
}

func (a *app) whyCommand() *cobra.Command {
	s := several{app: a}
	cmd := &cobra.Command{
		Use:               "why TARGET...",
		Short:             "Explain why an instance is as it is",
		ValidArgsFunction: a.completeTargets(true, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			answers, err := s.ask(cmd.Context(), "why", args, nil)
			if err != nil {
				return err
			}
			return a.emit(s.tree(answers), func() error {
				for n, answer := range answers {
					if n > 0 {
						a.put("")
					}
					if err := a.why(answer.tree); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	s.flag(cmd)
	return cmd
}

// whyReply is what the text view reads of a `why` reply.
type whyReply struct {
	Program   string `json:"program"`
	Instances map[int]struct {
		Text     string   `json:"text"`
		CanDo    []string `json:"can_do"`
		LastEnds []struct {
			Output []string `json:"output"`
		} `json:"last_ends"`
	} `json:"instances"`
}

func (a *app) why(tree any) error {
	var reply whyReply
	if err := into(tree, &reply); err != nil {
		return err
	}
	if len(reply.Instances) == 0 {
		return a.say("No instance of %s is wanted, and none is there.", reply.Program)
	}
	for n, index := range slices.Sorted(maps.Keys(reply.Instances)) {
		i := reply.Instances[index]
		if n > 0 {
			a.put("")
		}
		for _, line := range fold(safe(i.Text), a.limit()) {
			a.put(line)
		}
		if len(i.LastEnds) > 0 && len(i.LastEnds[0].Output) > 0 {
			a.put("Before it ended, it wrote:")
			for _, line := range i.LastEnds[0].Output {
				a.put("    " + safe(line))
			}
		}
		if len(i.CanDo) > 0 {
			if err := a.say("What one can do: %s", strings.Join(i.CanDo, ", ")); err != nil {
				return err
			}
		}
	}
	return nil
}
