package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Shell connects a person's terminal to a new shell in the machine until that
// shell ends. If in is not a terminal its lines are the shell's input.
func (c *Client) Shell(ctx context.Context, in, out *os.File) error {
	size := terminalSize(in)
	size.Set("id", strconv.FormatInt(time.Now().UnixNano(), 36))
	size.Set("term", os.Getenv("TERM"))
	conn, err := c.dial(ctx)
	if err != nil {
		return fmt.Errorf("open shell: %w", err)
	}
	defer func() { _ = conn.Close() }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://machine/shell?"+size.Encode(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "terminal")
	if err := request.Write(conn); err != nil {
		return fmt.Errorf("open shell: %w", err)
	}
	buffered := bufio.NewReader(conn)
	reply, err := http.ReadResponse(buffered, request)
	if err != nil {
		return fmt.Errorf("open shell: %w", err)
	}
	if reply.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("open shell: %s", reply.Status)
	}
	restore, err := makeRaw(in)
	if err != nil {
		return err
	}
	defer restore()
	defer c.followSize(ctx, in, size.Get("id"))()
	go func() {
		_, _ = io.Copy(conn, in)
		// Only what is not a terminal has an end; the shell is told as a person
		// would tell it.
		_, _ = io.WriteString(conn, endOfInput)
	}()
	if _, err := io.Copy(out, buffered); err != nil && !errors.Is(err, unix.EIO) {
		return fmt.Errorf("read from shell: %w", err)
	}
	return nil
}

// endOfInput is what control-D sends.
const endOfInput = "\x04"

// followSize tells the machine whenever the terminal changes its size.
func (c *Client) followSize(ctx context.Context, terminal *os.File, id string) (stop func()) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	go func() {
		for range changes {
			size := terminalSize(terminal)
			size.Set("id", id)
			if reply, err := c.do(ctx, http.MethodPost, "/resize", size, nil); err == nil {
				_ = reply.Body.Close()
			}
		}
	}()
	return func() {
		signal.Stop(changes)
		close(changes)
	}
}

func terminalSize(f *os.File) url.Values {
	size := url.Values{}
	if w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
		size.Set("rows", strconv.Itoa(int(w.Row)))
		size.Set("cols", strconv.Itoa(int(w.Col)))
	}
	return size
}

// makeRaw hands every key to the machine; it does nothing to what is not a
// terminal.
func makeRaw(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}, nil
	}
	raw := *before
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("set terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
