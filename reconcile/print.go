package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"
)

// States prints the two tables that the code runs on, as text.
func States() string {
	var b strings.Builder
	b.WriteString("What an instance does next toward its goal:\n\n")
	b.WriteString(columns(verbRows()))
	b.WriteString("\nWhat a fact makes of its state (– cannot come to pass: recorded, moves nothing):\n\n")
	b.WriteString(columns(moveRows()))
	return b.String()
}

// StatesMarkdown prints the tables and their diagram for the README.
func StatesMarkdown() string {
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> new\n")
	for _, e := range edges() {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", e.from, e.to, strings.Join(e.labels, ", "))
	}
	for _, s := range forgettable() {
		fmt.Fprintf(&b, "    %s --> [*]: %s\n", s, VerbForget)
	}
	b.WriteString("```\n\n")
	b.WriteString("What an instance does next toward its goal:\n\n" + markdown(verbRows()))
	b.WriteString("\nWhat a fact makes of its state (– cannot come to pass: recorded, moves nothing):\n\n" + markdown(moveRows()))
	return b.String()
}

// StatesDot prints the fact table as a graph, for graphviz.
func StatesDot() string {
	var b strings.Builder
	b.WriteString("digraph states {\n\trankdir=LR;\n\tnode [shape=box, style=rounded];\n")
	for _, s := range states {
		fmt.Fprintf(&b, "\t%q;\n", s)
	}
	for _, e := range edges() {
		fmt.Fprintf(&b, "\t%q -> %q [label=%q];\n", e.from, e.to, strings.Join(e.labels, "\n"))
	}
	b.WriteString("\t\"forgotten\" [shape=point];\n")
	for _, s := range forgettable() {
		fmt.Fprintf(&b, "\t%q -> \"forgotten\" [label=%q];\n", s, VerbForget)
	}
	b.WriteString("}\n")
	return b.String()
}

// forgettable are the states out of which an instance may leave the world.
func forgettable() []State {
	var out []State
	for _, s := range states {
		if verbs[s][GoalGone] == VerbForget {
			out = append(out, s)
		}
	}
	return out
}

// StatesJSON prints both tables for programs: {"verbs": {state: {goal: verb}},
// "moves": {state: {fact: state}}}.
func StatesJSON() string {
	out := struct {
		Verbs map[string]map[string]string `json:"verbs"`
		Moves map[string]map[string]string `json:"moves"`
	}{nest(verbRows()), nest(moveRows())}
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return "" // strings only: cannot be
	}
	return string(raw) + "\n"
}

// verbRows is the verb table with its headings: a row for each state.
func verbRows() [][]string {
	head := []string{"state"}
	for _, g := range goals {
		head = append(head, g.String())
	}
	rows := [][]string{head}
	for _, s := range states {
		row := []string{s.String()}
		for _, g := range goals {
			row = append(row, verbs[s][g].String())
		}
		rows = append(rows, row)
	}
	return rows
}

// moveRows is the fact table with its headings: a row for each fact.
func moveRows() [][]string {
	head := []string{"fact"}
	for _, s := range states {
		head = append(head, s.String())
	}
	rows := [][]string{head}
	for _, k := range facts {
		row := []string{k.String()}
		for _, s := range states {
			to := moves[s][k]
			if to == StateImpossible {
				row = append(row, "–")
			} else {
				row = append(row, to.String())
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// edge is every way from one state to another.
type edge struct {
	from, to State
	labels   []string
}

// edges lists the moves that change the state, in reading order.
func edges() []edge {
	var out []edge
	for _, from := range states {
		for _, to := range states {
			e := edge{from: from, to: to}
			for _, k := range facts {
				if from != to && moves[from][k] == to {
					e.labels = append(e.labels, k.String())
				}
			}
			if len(e.labels) > 0 {
				out = append(out, e)
			}
		}
	}
	return out
}

// columns aligns rows for a terminal.
func columns(rows [][]string) string {
	var b strings.Builder
	for n, row := range rows {
		for c, cell := range row {
			if c == len(row)-1 {
				b.WriteString(cell)
				break
			}
			fmt.Fprintf(&b, "%-*s  ", width(rows, c), cell)
		}
		b.WriteString("\n")
		if n == 0 {
			total := 0
			for c := range row {
				total += width(rows, c) + 2
			}
			b.WriteString(strings.Repeat("-", total-2) + "\n")
		}
	}
	return b.String()
}

func width(rows [][]string, column int) int {
	w := 0
	for _, row := range rows {
		w = max(w, len([]rune(row[column])))
	}
	return w
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for n, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if n == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

// nest turns rows with headings into a map of maps.
func nest(rows [][]string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, row := range rows[1:] {
		m := map[string]string{}
		for c, cell := range row[1:] {
			m[rows[0][c+1]] = cell
		}
		out[row[0]] = m
	}
	return out
}
