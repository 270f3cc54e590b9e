package lab

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Relay holds the signals that this process gets from [Catch] on, and passes
// them on once it knows to whom.
type Relay struct {
	signals chan os.Signal
	done    chan struct{}
}

// Catch starts a relay. Call it before the process that is to get the signals
// is started, so that none is lost, and Stop in the end.
func Catch() *Relay {
	r := &Relay{signals: make(chan os.Signal, 16), done: make(chan struct{})}
	signal.Notify(r.signals, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	return r
}

// To begins to pass signals on. A terminal sends its interrupt to every process
// in the foreground, the receiver included, so that one is passed on only where
// there is no terminal.
func (r *Relay) To(send func(os.Signal) error) {
	_, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	terminal := err == nil
	go func() {
		for {
			select {
			case <-r.done:
				return
			case s := <-r.signals:
				if s != syscall.SIGINT || !terminal {
					_ = send(s)
				}
			}
		}
	}()
}

// Stop ends the relay; signals do again what they did before.
func (r *Relay) Stop() {
	signal.Stop(r.signals)
	close(r.done)
}
