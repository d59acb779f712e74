package specfile

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel does n independent things, so many in one go, on all processors.
func parallel(n, batch int, do func(i int)) {
	var next atomic.Int64
	work := func() {
		for {
			end := int(next.Add(int64(batch)))
			for i := end - batch; i < min(end, n); i++ {
				do(i)
			}
			if end >= n {
				return
			}
		}
	}
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+batch-1)/batch) - 1 {
		all.Go(work)
	}
	work()
	all.Wait()
}
