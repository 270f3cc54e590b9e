package kube_test

import (
	"path/filepath"
	"testing"

	"github.com/tendril-cni/tendril/cni/journal"
	"github.com/tendril-cni/tendril/ipam"
)

// BenchmarkReserveInTheJournal is the address part of one ADD and of its DEL on a
// node that has slots: parse, reserve and release, each in a transaction.
func BenchmarkReserveInTheJournal(b *testing.B) {
	j, err := journal.Open(journal.Options{Path: filepath.Join(b.TempDir(), "journal.db"), Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	store := book{j}
	const text = `{"type":"whereabouts","range":"10.0.0.0/16","gateway":"10.0.0.1"}`
	parsed := shared(b, "", `"range":"10.0.0.0/16","gateway":"10.0.0.1"`)
	err = store.Update("claim", func(s ipam.Store) error {
		l := ipam.NewLedger(s)
		for i := range uint64(3) {
			l.Sync("", parsed.Cluster.Sets[0].Cell(i), ipam.Confirmed{Mine: ^ipam.Mask(0), Claimed: ^ipam.Mask(0)})
		}
		return l.Err()
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 110 {
		reserveOne(b, store, text, pod(1000+i))
	}
	b.ReportAllocs()
	for b.Loop() {
		reserveOne(b, store, text, pod(1))
		b.StopTimer()
		if err := store.Update("done", func(s ipam.Store) error { return ipam.Release(s, "n", pod(1)) }); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func reserveOne(b *testing.B, store book, text string, o ipam.Owner) {
	b.Helper()
	c, err := ipam.Parse([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Update("intent", func(s ipam.Store) error { _, err := ipam.Reserve(s, "n", c, o, nil); return err }); err != nil {
		b.Fatal(err)
	}
}
