package oci

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// TendrilImage is the reference of Tendril's own image until it has a release.
const TendrilImage = "tendril.dev/tendril:dev"

// tendrilPrograms are what the image runs, or puts on the node it runs on. They find each other by
// lying in one directory.
var tendrilPrograms = []string{"tendril", "tendrild", "tendril-cni", "tendril-dhcp", "tendril-controller"}

const (
	// dhcpProgram answers to one name of the plugins, and is not tendril-cni.
	dhcpProgram = "tendril-dhcp"
	programDir  = "/usr/local/bin/"
	sbomPath    = "/usr/share/sbom/tendril.spdx.json"
)

// Build is what Tendril's image is made from.
type Build struct {
	// Name is the image's reference; TendrilImage when empty.
	Name string
	// Version is the programs' own.
	Version string
	// Bin are the directories with the programs, as `make build` fills one, by architecture (Go's name).
	Bin map[string]string
	// Kinds are the names that tendril-cni answers to.
	Kinds []string
	// Programs are those of the directories; nil for all of Tendril's.
	Programs []string
}

// Tendril describes Tendril's image, one Image for each architecture, and its bill of materials: the
// programs in /usr/local/bin, there in cni/ the names that tendril-cni answers to, and the bill.
func Tendril(b Build) (images []Image, bill []byte, err error) {
	if b.Name == "" {
		b.Name = TendrilImage
	}
	if b.Programs == nil {
		b.Programs = tendrilPrograms
	}
	if bill, err = b.bill(); err != nil {
		return nil, nil, fmt.Errorf("describe tendril's image: %w", err)
	}
	for _, arch := range slices.Sorted(maps.Keys(b.Bin)) {
		img := Image{
			Name: b.Name, Architecture: arch, Entrypoint: []string{programDir + "tendrild"},
			Labels: map[string]string{
				"org.opencontainers.image.title":    "Tendril",
				"org.opencontainers.image.source":   "https://github.com/tendril-cni/tendril",
				"org.opencontainers.image.licenses": "Apache-2.0",
				"org.opencontainers.image.version":  b.Version,
			},
			Files: []File{{Path: sbomPath, Data: bill, Mode: 0o644}},
		}
		for _, name := range b.Programs {
			img.Files = append(img.Files, Program(programDir+name, filepath.Join(b.Bin[arch], name)))
		}
		for _, kind := range b.Kinds {
			img.Files = append(img.Files, Link(programDir+"cni/"+kind, "../tendril-cni"))
		}
		if slices.Contains(b.Programs, dhcpProgram) {
			img.Files = append(img.Files, Link(programDir+"cni/dhcp", "../"+dhcpProgram))
		}
		images = append(images, img)
	}
	return images, bill, nil
}
