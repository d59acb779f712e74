package output

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// memoryDir is a directory on a tmpfs.
func memoryDir(t *testing.T) string {
	t.Helper()
	var fs unix.Statfs_t
	if unix.Statfs("/dev/shm", &fs) != nil || fs.Type != tmpfs {
		t.Skip("/dev/shm is no tmpfs here")
	}
	dir, err := os.MkdirTemp("/dev/shm", "procnanny-test-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newCarrier is a rig whose writer counts as fast.
func newCarrier(t *testing.T, p Policy) (r *rig, witness string) {
	r, witness = newRig(t, p), filepath.Join(memoryDir(t), "witness")
	_, err := unix.FcntlInt(uintptr(r.w), unix.F_SETPIPE_SZ, 1<<20)
	must(t, err)
	must(t, r.dir.Witness(witness))
	r.hurry()
	return r, witness
}

func (r *rig) hurry() { r.sink.pace.pipe, r.sink.pace.capacity, r.sink.pace.fast = r.r, 1<<20, true }

// numbered are lines and of different lengths, about size bytes in all.
func numbered(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%d %s\n", i, strings.Repeat("x", i%190))
	}
	return b.String()
}

// begin writes to the witness what carry does before its bytes are in both.
func (e *entry) begin(t *testing.T, head int64) {
	t.Helper()
	b := order.AppendUint64(order.AppendUint64(nil, e.inode), uint64(head))
	must(t, pwriteFull(e.w.fd, append(b, 0, 1), e.at))
}

// carryHalf brings what is in the pipe to the file and, killed there, does not
// take it out: take bytes are all that reached the file.
func (r *rig) carryHalf(take int) {
	r.Helper()
	must(r.T, r.sink.ready(r.clock))
	e := r.sink.pace.witnessed(r.sink, r.r)
	if e == nil {
		r.Fatal("no entry of the witness")
	}
	must(r.T, r.sink.needLens())
	got, err := unix.Tee(r.r, r.sink.lens.pipe[1], take, unix.SPLICE_F_NONBLOCK)
	must(r.T, err)
	e.begin(r.T, r.sink.off)
	_, err = r.sink.splice(r.sink.lens.pipe[0], int(got))
	must(r.T, err)
	r.sink.dropLens()
}

// again is a new process after a kill, which knows the witness.
func (r *rig) again(p Policy, witness string) {
	r.Helper()
	r.sink.pace.entry = nil // a kill gives nothing back
	r.restart(p)
	must(r.T, r.dir.Witness(witness))
}

func TestCarry(t *testing.T) {
	r, _ := newCarrier(t, Policy{RotateBytes: 200_000, Keep: 100})
	data := numbered(700_000)
	r.put(data)
	r.drain()
	if r.sink.pace.entry == nil {
		t.Error("nothing was carried")
	}
	r.want(data)
	r.sink.Idle()
	if e := r.dir.witness.find(1, true); e == nil || e.at != 0 {
		t.Error("an idle sink keeps its entry")
	}
}

// One call goes on while there is much, up to what it may move.
func TestCarryGoesOn(t *testing.T) {
	r, _ := newCarrier(t, Policy{})
	data := numbered(800_000)
	r.put(data)
	for _, most := range []int{3 * Turn / 2, 4 << 20} {
		r.hurry()
		n, more, err := r.sink.Drain(r.r, most)
		must(t, err)
		if left := r.in(); n > most || n < 3*Turn/2 || more != (left > 0) {
			t.Errorf("a call that may move %d bytes moved %d, %d are left, more is %v", most, n, left, more)
		}
	}
	r.drain()
	r.want(data)
}

func TestRecallAfterAKill(t *testing.T) {
	for _, take := range []int{1, 7, 4096, 5000, carryMost} {
		t.Run(fmt.Sprint(take), func(t *testing.T) {
			r, witness := newCarrier(t, Policy{})
			data := numbered(300_000)
			r.say(data[:100_000])
			r.hurry()
			r.put(data[100_000:])
			r.carryHalf(take)
			r.again(Policy{}, witness)
			r.drain()
			r.want(data)
			if n := r.dir.witness.doubts.Load(); n != 0 {
				t.Errorf("%d doubts are left", n)
			}
			r.again(Policy{}, witness) // nothing comes twice
			r.say("end\n")
			r.want(data + "end\n")
		})
	}
}

// Killed between taking out and the next step, there is no doubt.
func TestNothingToRecall(t *testing.T) {
	r, witness := newCarrier(t, Policy{})
	data := numbered(200_000)
	r.put(data)
	r.carryHalf(100_000)
	must(t, r.sink.takeOut(r.r, r.sink.pace.entry, r.sink.off))
	r.again(Policy{}, witness)
	if n := r.dir.witness.doubts.Load(); n != 0 {
		t.Errorf("%d doubts after it was taken out", n)
	}
	r.drain()
	r.want(data)
}

func TestRecallBelievesNoNonsense(t *testing.T) {
	for name, head := range map[string]int64{"beyond the end": 1 << 40, "the end": 1000, "too far back": -carryMost, "more than is in the pipe": 0} {
		t.Run(name, func(t *testing.T) {
			r, witness := newCarrier(t, Policy{})
			r.say(strings.Repeat("a", 1000))
			r.hurry()
			r.sink.pace.witnessed(r.sink, r.r).begin(t, head)
			r.again(Policy{}, witness)
			r.say("line\n")
			r.want(strings.Repeat("a", 1000) + "line\n")
		})
	}
}

// What is dropped is counted, and not taken for what was in the file.
func TestDropAfterAKill(t *testing.T) {
	r, witness := newCarrier(t, Policy{Drop: true})
	r.put("first\nsecond\n")
	r.carryHalf(6)
	r.again(Policy{Drop: true}, witness)
	n, err := r.sink.discard(r.r, 6)
	must(t, err)
	if n != 6 || r.sink.Dropped() != 6 || r.dir.witness.doubts.Load() != 0 {
		t.Errorf("%d dropped, %d told, %d doubts", n, r.sink.Dropped(), r.dir.witness.doubts.Load())
	}
	if left := r.in(); left != 7 {
		t.Errorf("%d bytes are left", left)
	}
}

func TestWitnessThatIsCutOrGone(t *testing.T) {
	r, witness := newCarrier(t, Policy{})
	data := numbered(600_000)
	must(t, os.Truncate(witness, 0))
	r.say(data[:300_000])
	must(t, os.Remove(witness))
	r.hurry()
	r.say(data[300_000:])
	r.want(data)
}

func TestWitnessIsRefused(t *testing.T) {
	r := newRig(t, Policy{})
	dir := memoryDir(t)
	must(t, os.Symlink("/dev/null", filepath.Join(dir, "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	for _, path := range []string{"/proc/self/nothing", filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), dir} {
		if err := r.dir.Witness(path); err == nil {
			t.Errorf("%s is taken", path)
		}
	}
	r.hurry()
	r.say(numbered(100_000))
	r.want(numbered(100_000))
}

// More fast programs than a witness has room for are moved in the other way.
func TestWitnessIsFull(t *testing.T) {
	r, _ := newCarrier(t, Policy{})
	for i := range r.dir.witness.entries {
		r.dir.witness.entries[i].inode = uint64(1<<50 + i)
	}
	r.say(numbered(100_000))
	r.want(numbered(100_000))
}

func TestCarryToAFullDisk(t *testing.T) {
	r, _ := newCarrier(t, Policy{})
	data := numbered(200_000)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 70_001, Max: old.Max}))
	r.put(data)
	n, _, err := r.sink.Drain(r.r, Turn)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	if err == nil || n > 70_001 {
		t.Errorf("took %d: %v", n, err)
	}
	if left := r.in(); left != len(data)-n {
		t.Errorf("%d bytes are left of %d, %d were taken", left, len(data), n)
	}
	r.hurry()
	r.drain()
	r.want(data)
}
