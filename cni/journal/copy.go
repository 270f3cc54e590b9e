package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

// copyRetry is the pause after a copy that failed: a full disk is asked again,
// but not in a spin.
const copyRetry = 2 * time.Second

// copier is the one goroutine that writes the copy. It owns the copy's path.
type copier struct {
	db    *bolt.DB
	path  string
	log   *slog.Logger
	dirty chan struct{}
	quit  chan struct{}
	end   sync.Once // closes quit
	done  chan struct{}
	// since is when the first commit was made that the copy lacks, in nanoseconds
	// since 1970; 0 for none.
	since atomic.Int64
}

func startCopier(db *bolt.DB, path string, log *slog.Logger) *copier {
	c := &copier{db: db, path: path, log: log,
		dirty: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go c.run()
	return c
}

// wake tells the copier that the journal changed. It never blocks.
func (c *copier) wake() {
	c.since.CompareAndSwap(0, time.Now().UnixNano())
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// stop writes what is not yet copied and ends the goroutine.
func (c *copier) stop() {
	c.end.Do(func() { close(c.quit) })
	<-c.done
}

func (c *copier) run() {
	defer close(c.done)
	for {
		select {
		case <-c.dirty:
			// Half the promised lag is for gathering, so that the transactions of
			// one call share a copy and its disk work stays off their path.
			c.pause(CopyDelay / 2)
			if !c.write() {
				c.wake()
				c.pause(copyRetry)
			}
		case <-c.quit:
			select {
			case <-c.dirty:
				c.write()
			default:
			}
			return
		}
	}
}

// pause waits, but not beyond quit.
func (c *copier) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.quit:
	}
}

func (c *copier) write() bool {
	// What is committed from here on counts anew, though the copy may have it.
	since := c.since.Swap(0)
	err := replaceFile(c.path, func(w io.Writer) error {
		return c.db.View(func(tx *bolt.Tx) error {
			_, err := tx.WriteTo(w)
			return err
		})
	})
	if err != nil {
		c.since.Store(since)
		c.log.Warn("journal copy is behind; a power cut now would lose addresses of restarted pods", "path", c.path, "error", err)
	}
	return err == nil
}

// restore puts the copy in the journal's place. No copy is fine: first start.
func restore(o Options) (restored bool, err error) {
	if o.CopyPath == "" {
		return false, nil
	}
	src, err := os.Open(o.CopyPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read journal copy: %w", err)
	}
	defer src.Close()
	err = replaceFile(o.Path, func(w io.Writer) error {
		_, err := io.Copy(w, src)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("restore journal from %s: %w", o.CopyPath, err)
	}
	return true, nil
}

// replaceFile makes path hold what write writes, or leaves it as it was.
func replaceFile(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A fixed name, since each path has one writer: what a crash leaves behind is
	// overwritten the next time instead of piling up.
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
