package oci

import (
	"fmt"
	"os"
	"path/filepath"
)

// TendrilImage is the reference of Tendril's own image until it has a release.
const TendrilImage = "tendril.dev/tendril:dev"

// tendrilPrograms are what the image runs, or puts on the node it runs on. They find each other by
// lying in one directory.
var tendrilPrograms = []string{"tendril", "tendrild", "tendril-cni", "tendril-controller"}

// Tendril describes Tendril's image from the directory that `make build` fills: the programs in
// /usr/local/bin, and there in cni/ the names that tendril-cni answers to.
func Tendril(bin string) (Image, error) {
	const prefix = "/usr/local/bin/"
	img := Image{Name: TendrilImage, Entrypoint: []string{prefix + "tendrild"}}
	for _, name := range tendrilPrograms {
		img.Files = append(img.Files, Program(prefix+name, filepath.Join(bin, name)))
	}
	kinds, err := os.ReadDir(filepath.Join(bin, "cni"))
	if err != nil {
		return Image{}, fmt.Errorf("describe tendril's image: %w", err)
	}
	for _, kind := range kinds {
		img.Files = append(img.Files, Link(prefix+"cni/"+kind.Name(), "../tendril-cni"))
	}
	return img, nil
}
