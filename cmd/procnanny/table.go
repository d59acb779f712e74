package main

import (
	"io"
	"strings"
)

// style is how a piece of text looks on a terminal.
type style string

// The styles, as SGR parameters. Colours are of the basic eight, which every
// terminal theme makes readable.
const (
	none   style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

// cell is one field of a table. Its text is escaped when it is printed.
type cell struct {
	text  string
	style style
}

func plainCells(texts ...string) []cell {
	out := make([]cell, len(texts))
	for i, t := range texts {
		out[i] = cell{text: t}
	}
	return out
}

// painter puts style around text, or does not where nobody wants colour.
type painter bool

func (p painter) paint(text string, s style) string {
	if !p || s == none || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// table is rows of cells, aligned when printed.
type table struct {
	head []string
	rows []row
}

// row is one line of a table: cells in columns, or one text across them all.
type row struct {
	cells  []cell
	across bool
	indent int // of a text across
}

func (t *table) add(cells ...cell) { t.rows = append(t.rows, row{cells: cells}) }

// addAcross adds a text that is not in columns, and folded where it is too wide.
func (t *table) addAcross(indent int, c cell) {
	t.rows = append(t.rows, row{cells: []cell{c}, across: true, indent: indent})
}

// write prints the table with two spaces between columns. A line longer than
// limit columns is clipped; 0 is no limit.
func (t *table) write(w io.Writer, p painter, limit int) error {
	rows := t.rows
	if len(t.head) > 0 {
		head := make([]cell, len(t.head))
		for i, h := range t.head {
			head[i] = cell{h, dim}
		}
		rows = append([]row{{cells: head}}, rows...)
	}
	widths := measure(rows)
	var b strings.Builder
	for _, r := range rows {
		if r.across {
			b.WriteString(across(r, p, limit))
			continue
		}
		b.WriteString(line(r.cells, widths, p, limit))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// width is how many columns the widest row takes.
func (t *table) width() int {
	widths := measure(t.rows)
	for i, h := range t.head {
		if i < len(widths) {
			widths[i] = max(widths[i], columns(h))
		}
	}
	n := 2 * (len(widths) - 1)
	for _, w := range widths {
		n += w
	}
	return n
}

// measure escapes every cell and returns the width of each column.
func measure(rows []row) []int {
	var widths []int
	for _, r := range rows {
		for i := range r.cells {
			r.cells[i].text = safe(r.cells[i].text)
			if r.across {
				continue
			}
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(r.cells[i].text))
		}
	}
	return widths
}

// across is a text over the whole width, its further lines indented.
func across(r row, p painter, limit int) string {
	pad := strings.Repeat(" ", r.indent)
	var b strings.Builder
	for i, part := range fold(r.cells[0].text, max(limit-r.indent-2, 0)) {
		if i > 0 {
			b.WriteString("  ")
		}
		b.WriteString(pad + p.paint(clip(part, max(limit-r.indent, 0)), r.cells[0].style) + "\n")
	}
	return b.String()
}

func line(row []cell, widths []int, p painter, limit int) string {
	for len(row) > 0 && row[len(row)-1].text == "" {
		row = row[:len(row)-1] // no trailing blanks
	}
	var b strings.Builder
	at, blank := 0, 0 // blanks come before text only: they, too, would need a second line
	for i, c := range row {
		if i > 0 {
			blank += 2
		}
		text := c.text
		if limit > 0 {
			if at+blank >= limit {
				break
			}
			text = clip(text, limit-at-blank)
		}
		pad := widths[i] - columns(text)
		if text != "" {
			b.WriteString(strings.Repeat(" ", blank) + p.paint(text, c.style))
			at, blank = at+blank+columns(text), 0
		}
		blank += max(pad, 0)
	}
	return b.String()
}
