package output

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the processes that the tests need.
const roleVar = "OUTPUT_TEST_ROLE"

var roles = map[string]func(args []string){
	"write": roleWrite,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		role(os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper is this binary in another role.
func helper(role string, args ...any) *exec.Cmd {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = fmt.Sprint(a)
	}
	cmd := exec.Command("/proc/self/exe", words...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

const lineSize = 100

// roleWrite writes TOTAL bytes to stdout, numbered lines of 100 bytes, LINES a
// write.
func roleWrite(args []string) {
	total, _ := strconv.Atoi(args[0])
	lines, _ := strconv.Atoi(args[1])
	b := bytes.Repeat([]byte("0000000000"+strings.Repeat(".", lineSize-11)+"\n"), lines)
	for k := range lines {
		copy(b[k*lineSize:], fmt.Sprintf("%010d", k))
	}
	for n := 0; n < total; n += len(b) {
		for done := 0; done < len(b); {
			k, err := unix.Write(1, b[done:])
			if err != nil && err != unix.EINTR {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			done += max(k, 0)
		}
		for k := range lines {
			addDecimal(b[k*lineSize:k*lineSize+10], lines)
		}
	}
}

// addDecimal adds n to a number in decimal digits.
func addDecimal(digits []byte, n int) {
	for i := len(digits) - 1; i >= 0 && n > 0; i-- {
		n += int(digits[i] - '0')
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
}
