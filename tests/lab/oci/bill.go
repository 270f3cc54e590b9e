package oci

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// bill is the software bill of materials of the programs, in SPDX 2.3: what the Go linker wrote into each
// of them says which modules, in which versions, it is made of. It has no date of its own.
func (b Build) bill() ([]byte, error) {
	d := &document{packages: map[string]*v2_3.Package{}}
	for _, arch := range slices.Sorted(maps.Keys(b.Bin)) {
		for _, name := range b.Programs {
			if err := d.program(filepath.Join(b.Bin[arch], name), name, arch, b.Version); err != nil {
				return nil, err
			}
		}
	}
	return d.encode(b)
}

// document collects packages by identifier, and what depends on what.
type document struct {
	packages  map[string]*v2_3.Package
	relations []*v2_3.Relationship
}

func (d *document) program(path, name, arch, version string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	sum, err := digestFile(path)
	if err != nil {
		return err
	}
	id := d.add("program", &v2_3.Package{
		PackageName: name + "-" + arch, PackageVersion: version, PackageFileName: programDir + name, PrimaryPackagePurpose: "APPLICATION",
		PackageLicenseConcluded: "Apache-2.0", PackageLicenseDeclared: "Apache-2.0",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: sum}},
	})
	d.relate(common.MakeDocElementID("", "DOCUMENT"), "DESCRIBES", id)
	d.relate(id, "DEPENDS_ON", d.add("module", module(&debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")})))
	for _, m := range info.Deps {
		d.relate(id, "DEPENDS_ON", d.add("module", module(cmp.Or(m.Replace, m))))
	}
	return nil
}

// module is a Go module, under the name that scanners look for (package URL, type golang).
func module(m *debug.Module) *v2_3.Package {
	p := &v2_3.Package{
		PackageName: m.Path, PackageVersion: m.Version, PrimaryPackagePurpose: "LIBRARY",
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + m.Path + "@" + m.Version,
		}},
	}
	if m.Sum != "" {
		p.PackageComment = "go.sum " + m.Sum
	}
	return p
}

// forbidden is what an SPDX identifier must not have.
var forbidden = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func (d *document) add(kind string, p *v2_3.Package) common.DocElementID {
	id := forbidden.ReplaceAllString(kind+"-"+p.PackageName+"-"+p.PackageVersion, "-")
	p.PackageSPDXIdentifier = common.ElementID(id)
	p.PackageDownloadLocation, p.PackageCopyrightText = "NOASSERTION", "NOASSERTION"
	d.packages[id] = p
	return common.MakeDocElementID("", id)
}

func (d *document) relate(a common.DocElementID, how string, b common.DocElementID) {
	d.relations = append(d.relations, &v2_3.Relationship{RefA: a, Relationship: how, RefB: b})
}

func (d *document) encode(b Build) ([]byte, error) {
	out := v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: b.Name,
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "tendril-image"}}, Created: epoch.UTC().Format("2006-01-02T15:04:05Z"),
		},
		Relationships: d.relations,
	}
	for _, id := range slices.Sorted(maps.Keys(d.packages)) {
		out.Packages = append(out.Packages, d.packages[id])
	}
	// The namespace has to be another one for another content.
	content, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	out.DocumentNamespace = "https://tendril.dev/spdx/" + hex.EncodeToString(sum[:])
	text, err := json.MarshalIndent(out, "", " ")
	return append(text, '\n'), err
}

func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
