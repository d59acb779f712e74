package specfile

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

// What the keys of others are said to be here is there, and no key of ours is
// said to be another's at the place where it stands.
func TestElsewhere(t *testing.T) {
	paths := map[string]bool{"programs": true}
	eachNode(compileSchema(newContext()).tree(), "", func(path string, _ *node) { paths[path] = true })
	quoted := regexp.MustCompile("`([a-z_.]+)[^`]*`")
	for _, word := range slices.Sorted(maps.Keys(elsewhere)) {
		here := cameFrom(word)
		found := quoted.FindAllStringSubmatch(here, -1)
		if len(found) == 0 && !strings.HasPrefix(here, "not needed") && !strings.HasPrefix(here, "there is no such key") {
			t.Errorf("%s: %q names no key", word, here)
		}
		for _, m := range found {
			if !paths[m[1]] {
				t.Errorf("%s: there is no %s", word, m[1])
			}
		}
		if slices.Contains(spec.Keys(), word) || slices.Contains(topKeys, word) {
			t.Errorf("%s is a key of ours", word)
		}
	}
	if a, b := cameFrom("Limit_NO-FILE"), cameFrom("nothing of the kind"); a != "here it is `limits`" || b != "" {
		t.Errorf("%q, %q", a, b)
	}
}
