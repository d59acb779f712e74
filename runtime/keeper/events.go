package keeper

import (
	"bytes"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// For so many instances at the most, and so small a part of the descriptors that
// instances may have, is cgroup.events kept open. To open it takes as long as all else that an end needs
// of its cgroup; with more instances than that, descriptors are worth more.
const (
	eventsKept     = 256
	eventsKeptPart = 16
)

// mayKeep is for how many instances cgroup.events may be kept open.
func mayKeep(descriptors uint64) int {
	if descriptors <= reserved {
		return 0
	}
	return int(min(eventsKept, (descriptors-reserved)/eventsKeptPart))
}

// keep keeps an instance's cgroup.events open; leaf is its cgroup.
func (c *cgroups) keep(in *instance, leaf int) {
	if in.events != 0 || c.kept >= c.mayKeep {
		return
	}
	if fd, err := quickOpenAt(leaf, "cgroup.events"); err == nil {
		in.events, c.kept = fd, c.kept+1
	}
}

// release ends keep: its cgroup is gone, or will be.
func (c *cgroups) release(in *instance) {
	if in.events != 0 {
		quickClose(in.events)
		in.events, c.kept = 0, c.kept-1
	}
}

// populated reports whether somebody is in an instance's cgroup.
func (c *cgroups) populated(in *instance) bool {
	var room [256]byte
	if in.events != 0 {
		n, err := quickReadAgain(in.events, room[:])
		if err == nil {
			return populated(room[:n])
		}
		c.release(in) // somebody removed the cgroup, and may have made it again
	}
	leaf := c.leaf(in)
	fd, err := quickOpenAt(c.base, in.leaf+"/cgroup.events")
	if err != nil { // somebody removed the base, and it was made again
		fd, err = quickOpen(leaf + "/cgroup.events")
	}
	if err != nil {
		return false
	}
	defer quickClose(fd)
	n, err := quickRead(fd, room[:])
	return err == nil && populated(room[:n])
}

// populated reports whether cgroup.events says that somebody is there.
func populated(events []byte) bool { return bytes.Contains(events, []byte("populated 1")) }

// emptied reports whether nobody is in the run's cgroup, and else sees to it that
// we are told.
func (c *cgroups) emptied(k *keeper, r *run) bool {
	path := filepath.Join(c.leaf(r.in), "cgroup.events")
	if r.eventsFD < 0 {
		if !c.populated(r.in) {
			return true
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			if err = k.poll.add(fd, unix.EPOLLPRI, (*runEvents)(r)); err == nil {
				r.eventsFD = fd
			} else {
				unix.Close(fd)
			}
		}
		if err != nil { // no descriptor free, say: look by the clock
			k.dying[r] = struct{}{}
			k.set(alarmSweep, sweepEvery)
			return !c.populated(r.in)
		}
	}
	var b [128]byte // reading it also arms the next event
	n, err := unix.Pread(r.eventsFD, b[:], 0)
	return err == unix.ENODEV || err == nil && !populated(b[:n])
}
