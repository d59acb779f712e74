package spec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Signal is a signal number of Linux on every architecture we build for
// (signal(7), x86/ARM column); in JSON its name without SIG.
type Signal int

// The signals our defaults name.
const (
	SIGHUP  Signal = 1
	SIGKILL Signal = 9
	SIGTERM Signal = 15
)

// signalNames is indexed by number. SIGSTKFLT is 16.
var signalNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
	12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP", 21: "TTIN",
	22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}

// The real-time signals, as programs, kill(1) and systemd count them: the kernel
// begins at 32, but glibc keeps the first two to itself. They have no name.
const (
	signalRTMin = 34
	signalRTMax = 64
)

// String is the name without SIG: "TERM", "RTMIN+3".
func (s Signal) String() string {
	switch {
	case s > 0 && int(s) < len(signalNames):
		return signalNames[s]
	case s == signalRTMin:
		return "RTMIN"
	case s > signalRTMin && s <= signalRTMax:
		return "RTMIN+" + strconv.Itoa(int(s)-signalRTMin)
	}
	return strconv.Itoa(int(s))
}

// ParseSignal reads "TERM", "SIGTERM", "term", "RTMIN+3", "RTMAX-2" or "15".
func ParseSignal(text string) (Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for n, v := range signalNames {
		if v != "" && v == name {
			return Signal(n), nil
		}
	}
	switch name {
	case "RTMIN":
		return signalRTMin, nil
	case "RTMAX":
		return signalRTMax, nil
	}
	first, sign, rest := 0, 1, name
	if after, ok := strings.CutPrefix(name, "RTMIN+"); ok {
		first, rest = signalRTMin, after
	} else if after, ok := strings.CutPrefix(name, "RTMAX-"); ok {
		first, sign, rest = signalRTMax, -1, after
	}
	n, err := strconv.ParseUint(rest, 10, 8)
	v := Signal(first + sign*int(n))
	if err != nil || v < 1 || v > signalRTMax || first > 0 && v < signalRTMin {
		return 0, fmt.Errorf("unknown signal %q", text)
	}
	return v, nil
}

// MarshalJSON writes the name.
func (s Signal) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads a name or a number.
func (s *Signal) UnmarshalJSON(b []byte) error {
	v, err := ParseSignal(strings.Trim(string(b), `"`))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
