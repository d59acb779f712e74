package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/place"
)

// checkUpgrade prints what this binary and the control beside it know, for a
// running daemon that is to be replaced by them. That it prints it shows that
// they can run.
func checkUpgrade(out io.Writer) int {
	known := keeper.Known{Version: version, Protocol: keeper.Version, Will: keeper.WillVersion}
	if err := askControl(&known); err != nil {
		fmt.Fprintln(os.Stderr, "procnannyd:", err)
		return 1
	}
	if err := json.NewEncoder(out).Encode(known); err != nil {
		return 1
	}
	return 0
}

func askControl(known *keeper.Known) error {
	path, err := place.Libexec("procnanny-control")
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "--check-upgrade")
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	var control keeper.Known
	if err := json.Unmarshal(b, &control); err != nil {
		return fmt.Errorf("cannot understand %s: %w", path, err)
	}
	if control.Protocol != known.Protocol {
		return fmt.Errorf("cannot use %s: it speaks version %d of the keeper's protocol, this procnannyd %d", path, control.Protocol, known.Protocol)
	}
	known.Store = control.Store
	return nil
}
