package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/rpc"
)

// which are the events that one argument means: those whose topic begins so, those
// of a target, or both where it may be either.
type which struct {
	isTopic bool
	topic   string
	target  *pattern
}

// topicKinds are what a topic can begin with.
func topicKinds() []string { return append(rpc.TopicKinds(), "output") }

// parseWhich tells topics from targets: a topic has the name of a kind before its
// first dot. A shorter beginning of one may be a program's name, too.
func parseWhich(arg string) (which, error) {
	kinds := topicKinds()
	if kind, _, _ := strings.Cut(arg, "."); slices.Contains(kinds, kind) {
		if strings.ContainsAny(arg, "*?[/") { // no topic has one
			return which{}, fmt.Errorf("the topic '%s' can match nothing: a topic is a beginning, such as state.web.0; what happens to programs is \"w*\" or web/0", arg)
		}
		return which{isTopic: true, topic: arg}, nil
	}
	w := which{topic: arg, isTopic: slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(kind, arg) })}
	target, err := rpc.ParseTarget(arg)
	if err == nil {
		w.target = &target
	} else if !w.isTopic {
		return w, err
	}
	return w, nil
}

func (w which) wants(topic string, event map[string]any) bool {
	return w.isTopic && strings.HasPrefix(topic, w.topic) || w.target != nil && isAbout(event, *w.target)
}

// isAbout reports whether an event is about what a target means; a command may be
// about many.
func isAbout(event map[string]any, t pattern) bool {
	if program, ok := event["program"].(string); ok {
		index := event["instance"]
		return t.Matches(program) && (t.Index == nil || index != nil && int(number(index)) == *t.Index)
	}
	targets, _ := event["targets"].([]any)
	return slices.ContainsFunc(targets, func(v any) bool {
		text, _ := v.(string)
		of, err := rpc.ParseTarget(text)
		return err == nil && t.Matches(of.Program) && (t.Index == nil || of.Index != nil && *of.Index == *t.Index)
	})
}

// wants reports whether an event was asked for.
func (e *eventReader) wants(event map[string]any) bool {
	topic, ok := event["topic"].(string)
	return len(e.which) == 0 || !ok || slices.ContainsFunc(e.which, func(w which) bool { return w.wants(topic, event) })
}

// only is the topic that the daemon can choose by; "" is none.
func (e *eventReader) only() string {
	if len(e.which) == 1 && e.which[0].target == nil {
		return e.which[0].topic
	}
	return ""
}

// subscriptions are the topics to listen to: output only where it was asked for.
func (e *eventReader) subscriptions() []string {
	var out []string
	for _, w := range e.which {
		if w.isTopic {
			out = append(out, w.topic)
		}
	}
	if len(e.which) == 0 || slices.ContainsFunc(e.which, func(w which) bool { return w.target != nil }) {
		out = append(out, rpc.TopicKinds()...)
	}
	return out
}

// unknown says, where nothing was found, which argument can mean nothing: neither
// does a topic begin so, nor is there such a program.
func (e *eventReader) unknown(ctx context.Context, c rpc.Caller, endpoint string) error {
	var want []pattern
	for _, w := range e.which {
		if !w.isTopic {
			want = append(want, *w.target)
		}
	}
	if len(want) == 0 {
		return nil
	}
	tree, err := ask(ctx, c, endpoint, "status", nil)
	if err != nil {
		return err
	}
	var reply statusReply
	if err := into(tree, &reply); err != nil {
		return err
	}
	if err := missing(want, reply.Programs); err != nil {
		return fmt.Errorf("%w, and no event of one; a topic begins with one of %s", err, strings.Join(topicKinds(), ", "))
	}
	return nil
}

// completeWhich offers what runs, and the kinds of topics.
func (a *app) completeWhich(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	out, directive := a.completeTargets(true, 0)(cmd, args, word)
	for _, kind := range topicKinds() {
		if strings.HasPrefix(kind, word) {
			out = append(out, kind)
		}
	}
	return out, directive
}
