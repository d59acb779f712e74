package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// planReply is what the text views read of plan, apply and rollback.
type planReply struct {
	Digest     string        `json:"digest"`
	Generation uint64        `json:"generation"`
	Changed    bool          `json:"changed"`
	Changes    []change      `json:"changes"`
	Problems   spec.Problems `json:"problems"`
}

type change struct {
	Program  string   `json:"program"`
	Instance int      `json:"instance"`
	What     string   `json:"what"`
	Reason   string   `json:"reason"`
	Keys     []string `json:"keys"`
}

func (a *app) planCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "plan [PATH]", Short: "Show what applying the files would do",
		Long: `Show what applying PATH (by default the daemon's own files) would do, instance by
instance. Exit code 2 says that there are changes.

"plan --out FILE", then "apply FILE", applies exactly what was shown, or refuses
because it is stale.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.plan(cmd.Context(), nil, "", out)
			}
			ask, err := filesOf(args[0])
			if err != nil {
				return err
			}
			return a.plan(cmd.Context(), ask, args[0], out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "also write the plan to `FILE`, for apply")
	return cmd
}

// maxPlanFiles keeps a request below what a daemon takes in one message.
const maxPlanFiles = 1<<20 - 4096

// filesOf reads a configuration as the daemon reads its own.
func filesOf(path string) (map[string]any, error) {
	src, _, err := watch.Read(path)
	if err != nil {
		return nil, err
	}
	size := 0
	files := make(map[string]any, len(src.Files))
	for name, data := range src.Files {
		size += len(name) + len(data) + 8
		files[name] = data
	}
	if size > maxPlanFiles {
		return nil, fmt.Errorf("cannot plan %s: its files have %d bytes together, a request holds %d; put them where the daemon reads and plan without PATH", path, size, maxPlanFiles)
	}
	ask := map[string]any{"files": files, "root": src.Root}
	if src.Single != "" {
		ask["single"] = src.Single
	}
	return ask, nil
}

// plan asks what the files at path would do, or the daemon's own when it is
// empty, and stores the plan in out.
func (a *app) plan(ctx context.Context, ask map[string]any, path, out string) error {
	tree, err := a.call(ctx, "plan", ask)
	if err != nil {
		return err
	}
	var reply planReply
	if err := into(tree, &reply); err != nil {
		return err
	}
	if path != "" {
		reply.Problems = placed(reply.Problems, path)
	}
	bad := len(reply.Problems.Errors()) > 0
	if out != "" && !bad {
		if err := writePlan(out, tree); err != nil {
			return err
		}
	}
	if err := a.emit(tree, func() error { return a.planText(reply, bad) }); err != nil {
		return err
	}
	switch {
	case bad:
		return &exit{code: exitFailed}
	case len(reply.Changes) > 0:
		return &exit{code: exitChanges}
	}
	return nil
}

// planText prints a plan; problems go to stderr, as all reasons do.
func (a *app) planText(reply planReply, bad bool) error {
	a.problems(reply.Problems)
	switch {
	case bad:
		return nil
	case len(reply.Changes) == 0:
		return a.say("Nothing to do: what runs is what shall run (generation %d).", reply.Generation)
	}
	if err := a.grid(changesTable(reply.Changes)); err != nil {
		return err
	}
	a.put("")
	return a.say("%s. Nothing else is touched.", countChanges(reply.Changes))
}

// problems prints what is wrong with files to stderr.
func (a *app) problems(list spec.Problems) {
	p := a.paintErr()
	for _, problem := range list {
		kind, color := "error", red
		if problem.Warning {
			kind, color = "warning", yellow
		}
		_, _ = fmt.Fprintln(a.err, p.paint(kind+": ", color)+safeLines(problem.Text())) // to whom, if not there
	}
}

// whatStyle colours what a change does to an instance.
var whatStyle = map[string]style{
	"start": green, "stop": red, "replace": yellow, "restart": yellow, "live": cyan, "forget": dim, "wait": dim,
}

// changesTable has a row for each change, or for neighbours that are alike.
func changesTable(list []change) *table {
	t := &table{}
	for i := 0; i < len(list); {
		first, n := list[i], 1
		for i+n < len(list) && sameChange(first, list[i+n]) && list[i+n].Instance == first.Instance+n {
			n++
		}
		r := indexRange{first.Instance, first.Instance + n - 1}
		t.add(cell{first.What, whatStyle[first.What]}, cell{text: r.label(first.Program)}, cell{text: first.Reason})
		i += n
	}
	return t
}

func sameChange(a, b change) bool {
	return a.Program == b.Program && a.What == b.What && a.Reason == b.Reason
}

// countChanges is a summary such as "3 instances: 2 start, 1 stop".
func countChanges(list []change) string {
	counts := map[string]int{}
	for _, c := range list {
		counts[c.What]++
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[what], what))
	}
	return many(len(list), "change") + ": " + strings.Join(parts, ", ")
}

// planFormat marks a file as a plan of ours.
const planFormat = 1

// writePlan stores a plan, whole or not at all.
func writePlan(path string, tree any) error {
	m, _ := tree.(map[string]any)
	doc := map[string]any{"procnanny_plan": planFormat}
	maps.Copy(doc, m)
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write plan %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fmt.Errorf("cannot write plan %s: %w", path, cause(err))
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("cannot write plan %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("cannot write plan %s: %w", path, err)
	}
	return nil
}

// cause is what went wrong with a file, without its name.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// maxPlan bounds a plan file.
const maxPlan = 64 << 20

// readPlan is the digest of a stored plan.
func readPlan(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read plan %s: %w", path, cause(err))
	}
	defer f.Close()
	var doc struct {
		Format int    `json:"procnanny_plan"`
		Digest string `json:"digest"`
	}
	err = json.NewDecoder(io.LimitReader(f, maxPlan)).Decode(&doc)
	if err != nil || doc.Format != planFormat || doc.Digest == "" {
		return "", fmt.Errorf("cannot read plan %s: it is no plan that `procnanny plan --out` wrote", path)
	}
	return doc.Digest, nil
}

func (a *app) applyCommand() *cobra.Command {
	var f changeFlags
	var force, allowEmpty bool
	cmd := &cobra.Command{
		Use: "apply [FILE]", Short: "Apply what the files say, or exactly a stored plan",
		Long: `Apply what the files say now. With FILE, written by "plan --out", apply exactly
that, or refuse because it is stale.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask, err := f.add(a, map[string]any{})
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if ask["digest"], err = readPlan(args[0]); err != nil {
					return err
				}
			}
			if force {
				ask["force"] = true
			}
			if allowEmpty {
				ask["allow_empty"] = true
			}
			return a.applied(cmd.Context(), "apply", ask)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "let replacements that are held go on")
	cmd.Flags().BoolVar(&allowEmpty, "allow-empty", false, "accept files without any program: stop everything")
	f.offerWait(cmd)
	return cmd
}

// applied asks for apply or rollback and prints what it does.
func (a *app) applied(ctx context.Context, method string, ask map[string]any) error {
	var reply planReply
	return a.show(ctx, method, ask, &reply, func() error {
		if err := a.grid(changesTable(reply.Changes)); err != nil {
			return err
		}
		switch {
		case len(reply.Changes) > 0:
			a.put("")
			return a.say("Generation %d. %s.", reply.Generation, countChanges(reply.Changes))
		case reply.Changed || method == "rollback": // what runs says the same, files may not
			return a.say("Generation %d. No instance is touched.", reply.Generation)
		}
		return a.say("Nothing to do: generation %d is what the files say.", reply.Generation)
	})
}

func (a *app) rollbackCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "rollback GENERATION", Short: "Run an earlier generation until the files change",
		Long: "Run an earlier generation (see generations) until the files change. status says\nthat the files are ahead.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := generation(args[0])
			if err != nil {
				return err
			}
			ask, err := f.add(a, map[string]any{"generation": n})
			if err != nil {
				return err
			}
			return a.applied(cmd.Context(), "rollback", ask)
		},
	}
	f.offerWait(cmd)
	return cmd
}

func generation(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, errGeneration(text)
	}
	return n, nil
}

func errGeneration(text string) error {
	return fmt.Errorf("expected the number of a generation, found %q: see procnanny generations", text)
}
