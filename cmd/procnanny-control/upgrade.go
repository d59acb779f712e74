package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/procnanny/procnanny/runtime/control"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/oom"
)

const (
	// checkTime bounds the run of a new binary that is asked what it knows.
	checkTime = 10 * time.Second
	// answerTime bounds the wait for its answer after its end: on a machine with much
	// to do, seconds may pass before we read what is in the pipe.
	answerTime = 5 * time.Second
)

// printKnown answers --check-upgrade.
func printKnown(out io.Writer) int {
	known := keeper.Known{Version: version, Protocol: keeper.Version, Will: keeper.WillVersion, Store: control.StoreFormat}
	if json.NewEncoder(out).Encode(known) != nil {
		return 1
	}
	return 0
}

// checkUpgrade runs what is installed now and says why it cannot take over from
// us: it does not run, or cannot read what we have written.
func checkUpgrade(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--check-upgrade")
	var said, why bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &why
	cmd.WaitDelay = answerTime
	err := oom.AsBorn(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s does not run: %w: %s", path, err, firstLine(why.String()))
	}
	var known keeper.Known
	if err := json.Unmarshal(said.Bytes(), &known); err != nil {
		return fmt.Errorf("%s does not say what it can read: %w", path, err)
	}
	for _, f := range []struct {
		name        string
		have, needs int
	}{
		{"a keeper's will", known.Will, keeper.WillVersion},
		{"the state directory", known.Store, control.StoreFormat},
	} {
		if f.have < f.needs {
			return fmt.Errorf("version %s cannot read %s: it knows format %d, this is %d", known.Version, f.name, f.have, f.needs)
		}
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
