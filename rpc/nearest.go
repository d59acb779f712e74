package rpc

// nearest returns the one of names that key is probably a slip of, or "".
func nearest(key string, names []string) string {
	best, found := 1+min(len(key)/3, 2), ""
	if len(key) > 64 {
		return "" // nobody's slip, and the distance costs its square
	}
	for _, name := range names {
		if d := distance(key, name); d <= best && (found == "" || d < best) {
			best, found = d, name
		}
	}
	return found
}

// distance is how many bytes must be put in, taken out or changed to make b of
// a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
