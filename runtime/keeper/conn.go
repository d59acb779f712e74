package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxQueue bounds what Send keeps for a keeper that does not read, in bytes.
const maxQueue = 64 << 20

// Conn is control's end of the conversation. Send may be called from any
// goroutine; Recv from one.
type Conn struct {
	file *os.File
	raw  syscall.RawConn

	mu      sync.Mutex
	queue   []byte // what a direct write left; the writer owns the socket until it is empty
	writing bool
	broken  error

	in   []byte // read, not yet decoded
	room []byte
	// rights is room for descriptors that come with a message.
	rights []byte
	estate *estate
}

// Connect takes over the socket that the keeper gave its control (f is
// duplicated and stays the caller's), asks for everything, and returns it.
func Connect(f *os.File) (*Conn, Hello, error) {
	c, err := newConn(f)
	if err != nil {
		return nil, Hello{}, fmt.Errorf("cannot use the keeper's socket: %w", err)
	}
	hello, err := c.hello()
	if err != nil {
		c.Close()
		return nil, Hello{}, err
	}
	return c, hello, nil
}

func newConn(f *os.File) (*Conn, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile then uses the runtime's poller
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "keeper")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Conn{
		file: file, raw: raw, room: make([]byte, 64<<10), rights: make([]byte, unix.CmsgSpace(maxRights*4)), estate: newEstate(),
	}, nil
}

// hello asks for the list and puts its parts together. Facts before it are in
// it, so they are dropped.
func (c *Conn) hello() (Hello, error) {
	if err := c.Send([]Order{{Kind: OrderList, Run: Version, Holds: true}}); err != nil {
		return Hello{}, err
	}
	var whole *Hello
	for {
		facts, err := c.Recv()
		if err != nil {
			return Hello{}, fmt.Errorf("cannot read the keeper's list: %w", err)
		}
		for i, f := range facts {
			if f.Kind != FactHello || f.Hello == nil {
				continue
			}
			if f.Hello.Version != Version {
				return Hello{}, fmt.Errorf("the keeper speaks version %d of the protocol, this control version %d", f.Hello.Version, Version)
			}
			if whole == nil {
				whole = f.Hello
			} else {
				whole.Runs = append(whole.Runs, f.Hello.Runs...)
			}
			if !f.Hello.More {
				whole.More = false
				c.estate.begin(whole)
				c.keep(facts[i+1:])
				return *whole, nil
			}
		}
	}
}

// keep puts facts that came right behind the list back, for the next Recv.
func (c *Conn) keep(facts []Fact) {
	var again []byte
	for i := range facts {
		again, _ = AppendFact(again, &facts[i]) // it came in a frame, so it fits in one
	}
	c.in = append(again, c.in...)
}

// Send hands orders to the keeper. It does not wait: what the socket does not
// take at once is written by a goroutine that lives as long as there is some. An
// order that is too large is an error, and the others are sent.
func (c *Conn) Send(orders []Order) error {
	b, large := appendOrders(orders)
	return errors.Join(large, c.send(orders, b))
}

func appendOrders(orders []Order) (b []byte, large error) {
	for i := range orders {
		var err error
		if b, err = AppendOrder(b, &orders[i]); err != nil {
			large = err
		}
	}
	return b, large
}

func (c *Conn) send(orders []Order, b []byte) error {
	c.estate.order(orders)
	defer c.estate.tidy() // the keeper has its orders by then
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	if !c.writing {
		n, err := c.tryWrite(b)
		if err != nil {
			c.broken = fmt.Errorf("cannot send to the keeper: %w", err)
			return c.broken
		}
		b = b[n:]
	}
	if len(b) == 0 {
		return nil
	}
	if len(c.queue)+len(b) > maxQueue {
		return errors.New("cannot send to the keeper: it does not read")
	}
	c.queue = append(c.queue, b...)
	if !c.writing {
		c.writing = true
		go c.write()
	}
	return nil
}

// tryWrite writes what the socket takes now.
func (c *Conn) tryWrite(b []byte) (done int, err error) {
	werr := c.raw.Write(func(fd uintptr) bool {
		for done < len(b) {
			var n int
			n, err = unix.Write(int(fd), b[done:])
			if err != nil {
				return true
			}
			done += n
		}
		return true
	})
	if err == nil {
		err = werr
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		err = nil
	}
	return done, err
}

func (c *Conn) write() {
	for {
		c.mu.Lock()
		b := c.queue
		c.queue = nil
		if len(b) == 0 || c.broken != nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if _, err := c.file.Write(b); err != nil {
			c.mu.Lock()
			c.broken = fmt.Errorf("cannot send to the keeper: %w", err)
			c.mu.Unlock()
		}
	}
}

// In a mass start each start sends descriptors, and facts come after many of
// them. Nobody waits for the descriptors, and on their way they are safe: the
// kernel holds them, whoever dies. So from the second message on that has only
// descriptors they may gather for a while.
const gatherFor = 2 * time.Millisecond

// Recv waits for the next facts and returns all that have come. The error is
// io.EOF when the keeper is gone.
func (c *Conn) Recv() ([]Fact, error) {
	for parcels := 0; ; {
		facts, err := c.decoded()
		if err != nil || len(facts) > 0 {
			return facts, err
		}
		n, parcel, err := c.read(parcels > 1)
		if parcel {
			parcels++
		}
		c.in = append(c.in, c.room[:n]...)
		if err != nil {
			if errors.Is(err, unix.ECONNRESET) {
				err = io.EOF
			}
			return nil, err
		}
	}
}

// maxRights is how many descriptors the kernel lets one message carry.
const maxRights = 253

// read reads what there is, at the most up to the next message that carries
// descriptors, and keeps those: a parcel. With gather it lets what comes gather
// before it sleeps.
func (c *Conn) read(gather bool) (n int, parcel bool, err error) {
	rights, flags := 0, 0
	waited := c.raw.Read(func(fd uintptr) bool {
		for {
			n, rights, flags, err = quickReceive(int(fd), c.room, c.rights)
			switch {
			case errors.Is(err, unix.EAGAIN) && gather:
				gather = false
				time.Sleep(gatherFor)
			case !errors.Is(err, unix.EINTR):
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	switch {
	case waited != nil:
		return 0, false, waited
	case err != nil:
		return 0, false, err
	case n == 0:
		return 0, false, io.EOF
	}
	if parcel = rights > 0 || flags&unix.MSG_CTRUNC != 0; parcel {
		c.estate.unpack(c.rights[:rights])
	}
	return n, parcel, nil
}

func (c *Conn) decoded() (facts []Fact, err error) {
	rest := c.in
	for {
		body, after, ok, err := cutFrame(rest)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		f, err := DecodeFact(body)
		if err != nil {
			return nil, err
		}
		rest = after
		if c.estate.take(&f) {
			facts = append(facts, f)
		}
	}
	if len(rest) == 0 && cap(c.in) > len(c.room) {
		c.in = nil // a burst is over
	} else {
		c.in = slices.Delete(c.in, 0, len(c.in)-len(rest))
	}
	return facts, nil
}

// Close closes the socket; Recv returns an error.
func (c *Conn) Close() error {
	c.estate.drop()
	return c.file.Close()
}
