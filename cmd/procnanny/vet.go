package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/runtime/place"
	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// evaluator is the program that evaluates files.
const evaluator = "procnanny-eval"

func (a *app) vetCommand() *cobra.Command {
	var host bool
	cmd := &cobra.Command{
		Use: "vet [PATH]", Short: "Check configuration files, without a daemon",
		Long: `Check configuration files, a directory or one file, without a daemon, and give the
verdict that it would give. By default those that a daemon of yours would read.

Users and groups that this host does not know are warnings; with --host they are
errors, and limits, executables and directories of this host are looked at, too.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.configPath(args)
			if err != nil {
				return err
			}
			return a.vet(cmd.Context(), path, host)
		},
	}
	cmd.Flags().BoolVar(&host, "host", false, "also check what only this host can tell")
	return cmd
}

// configPath is the configuration that is meant: by default that of a daemon of
// ours.
func (a *app) configPath(args []string) (string, error) {
	path := a.getenv("PROCNANNY_CONFIG")
	if path == "" {
		path = place.Defaults(a.uid, a.getenv).Config
	}
	if len(args) > 0 {
		path = args[0]
	}
	if path == "" {
		return "", fmt.Errorf("expected the PATH of a configuration")
	}
	return path, nil
}

func (a *app) vet(ctx context.Context, path string, host bool) error {
	result, err := verdict(ctx, path, host)
	if err != nil {
		return err
	}
	if host && result.Spec != nil {
		result.Problems = append(result.Problems, hostProblems(*result.Spec, result.Defined, a.getenv("PATH"))...)
	}
	result.Problems = placed(result.Problems, path)
	bad := len(result.Problems.Errors()) > 0
	tree := vetTree(result, bad)
	err = a.emit(tree, func() error {
		a.problems(result.Problems)
		if bad {
			return nil
		}
		return a.say("%s: good, %s", path, countSpec(result.Spec))
	})
	if err == nil && bad {
		return &exit{code: exitFailed}
	}
	return err
}

// verdict reads and evaluates files as the daemon does. What makes them
// unreadable is a verdict, too.
func verdict(ctx context.Context, path string, host bool) (spec.EvalResult, error) {
	src, _, err := watch.Read(path)
	if err != nil {
		if problems, ok := err.(spec.Problems); ok { //nolint:errorlint // Read says that it is one
			return spec.EvalResult{Problems: problems}, nil
		}
		return spec.EvalResult{}, err
	}
	eval, err := place.Libexec(evaluator)
	if err != nil {
		return spec.EvalResult{}, err
	}
	return (&watch.Evaluator{Path: eval}).Evaluate(ctx, src, nil, !host)
}

// placed makes the places of problems, which are below the configuration's
// directory, paths from where the user is.
func placed(list spec.Problems, path string) spec.Problems {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	from := func(file string) string {
		if file == "" || filepath.IsAbs(file) {
			return file
		}
		return filepath.Join(path, file)
	}
	out := slices.Clone(list)
	for i := range out {
		out[i].File = from(out[i].File)
		out[i].Also = slices.Clone(out[i].Also)
		for n := range out[i].Also {
			out[i].Also[n] = from(out[i].Also[n])
		}
	}
	return out
}

func countSpec(s *spec.Spec) string {
	if s == nil {
		return "no program"
	}
	instances := 0
	for _, p := range s.Programs {
		instances += p.Instances
	}
	return many(len(s.Programs), "program") + ", " + many(instances, "instance")
}

// vetTree is the verdict for scripts.
func vetTree(result spec.EvalResult, bad bool) any {
	problems := make([]any, len(result.Problems))
	for i, p := range result.Problems {
		problems[i] = map[string]any{
			"file": p.File, "line": p.Line, "column": p.Column, "path": p.Path, "message": p.Message,
			"source_line": p.SourceLine, "hint": p.Hint, "also": append([]string{}, p.Also...), "warning": p.Warning,
		}
	}
	programs, instances := 0, 0
	if result.Spec != nil {
		programs = len(result.Spec.Programs)
		for _, p := range result.Spec.Programs {
			instances += p.Instances
		}
	}
	return map[string]any{"ok": !bad, "problems": problems, "programs": programs, "instances": instances}
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the CUE schema that files are checked with", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if eval, err := place.Libexec(evaluator); err == nil {
				out, err := exec.CommandContext(cmd.Context(), eval, "--schema").Output()
				if err != nil {
					return fmt.Errorf("cannot run %s --schema: %w", eval, err)
				}
				return a.printDocument(map[string]any{"schema": strings.TrimRight(string(out), "\n")}, "schema")
			}
			return a.document(cmd.Context(), "schema", "schema", nil)
		},
	}
}
