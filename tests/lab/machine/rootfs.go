package machine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// configure does in the root file system what the packages' own scripts would
// have done, and adds the lab's files.
func configure(root string) error {
	certificates, err := certificateBundle(root)
	if err != nil {
		return err
	}
	files := []struct {
		path string
		mode os.FileMode
		data []byte
	}{
		{"etc/inittab", 0o644, inittab},
		{"etc/fstab", 0o644, fstab},
		{"etc/lab/setup", 0o755, setupScript},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")},
		{"etc/group", 0o644, []byte("root:x:0:\ntty:x:5:\nkvm:x:107:\nnogroup:x:65534:\n")},
		{"etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
		{"etc/machine-id", 0o644, []byte(strings.Repeat("0123456789abcdef", 2) + "\n")},
		{"etc/resolv.conf", 0o644, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, certificates},
		{"root/.bashrc", 0o644, []byte("PS1='\\h:\\w# '\n")},
		{"root/.profile", 0o644, []byte(". ~/.bashrc\n")},
	}
	for _, f := range files {
		if err := replaceFile(filepath.Join(root, f.path), f.data, f.mode); err != nil {
			return err
		}
	}
	return errors.Join(makeDirs(root), makeLinks(root))
}

func makeDirs(root string) error {
	for _, dir := range []string{
		"dev", "etc/cni/net.d", "lab", "mnt", "opt/cni/bin", "proc", "root", "run", "sys", "tmp",
		"var/lib", "var/log", "var/tmp",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// makeLinks sets the links that update-alternatives would have set. /bin/sh is
// bash because busybox's shell prefers its own applets to the real programs.
func makeLinks(root string) error {
	links := map[string]string{
		"usr/sbin/init": "/bin/busybox",
		"usr/bin/sh":    "bash",
		"usr/bin/awk":   "gawk",
		"usr/bin/nc":    "nc.openbsd",
		"usr/bin/vi":    "busybox",
		"usr/bin/less":  "busybox",
		"var/run":       "/run",
	}
	for _, tool := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		links["usr/sbin/"+tool] = "xtables-nft-multi"
	}
	for path, target := range links {
		path = filepath.Join(root, path)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}

// certificateBundle joins the certificates as ca-certificates would.
func certificateBundle(root string) ([]byte, error) {
	found, err := filepath.Glob(filepath.Join(root, "usr/share/ca-certificates/*/*.crt"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, f := range found {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		b.Write(data)
	}
	return b.Bytes(), nil
}

// replaceFile writes a file anew: the one that is there may be a hard link into
// a cached tree.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
