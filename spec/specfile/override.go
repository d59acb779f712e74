package specfile

import (
	"github.com/procnanny/procnanny/spec"
)

type overrides struct{ view *view }

func (e *Evaluation) override(list []spec.Override) *overrides { return nil }

func (o *overrides) refused(host spec.Resolved) map[string]spec.Problems { return nil }
