# Tendril. `make demo` shows the main job, `make test` proves it; both install
# what they need. CI calls nothing but these targets.

SHELL   := /bin/bash
GO      ?= go
BIN     := bin
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Without gRPC's traces, whose pages come from text/template: that calls methods by
# their names, so the linker would have to keep every method there is.
TAGS    := grpcnotrace
STATIC  := CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)'
# The kinds that tendril-cni answers to by its name.
KINDS   := sriov macvlan ipvlan vlan bridge host-device tuning sbr vrf bond static host-local
# The image: its name, the architectures it is for, and its programs.
IMAGE   ?= tendril.dev/tendril:dev
ARCHS   ?= amd64 arm64
HOST    := $(shell $(GO) env GOARCH)
INIMAGE := ./cmd/tendril ./cmd/tendrild ./cmd/tendril-controller ./cmd/tendril-cni ./cmd/tendril-dhcp

.PHONY: all build lint test unit demo bench image krew manifests chart lab-shell clean

all: build

build: ## every program into bin/
	@mkdir -p $(BIN)/cni
	$(STATIC) -o $(BIN)/ ./cmd/tendril ./cmd/tendrild ./cmd/tendril-controller ./cmd/tendril-cni ./cmd/tendril-dhcp ./cmd/kubectl-tendril
	@for k in $(KINDS); do ln -sf ../tendril-cni $(BIN)/cni/$$k; done
	@ln -sf ../tendril-dhcp $(BIN)/cni/dhcp

lint: ## gofmt, go vet, staticcheck (pinned as a Go tool); kubectl-tendril for other systems
	@test -z "$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go'))" || { gofmt -d $$(git ls-files --cached --others --exclude-standard '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags lab,cluster ./...
	@for os in darwin windows; do CGO_ENABLED=0 GOOS=$$os $(GO) vet -trimpath ./cmd/kubectl-tendril || exit 1; done
	$(GO) tool staticcheck ./...

test: ## every tier: lint, unit + kernel, lab, cluster
	@bash tests/run.sh all

unit: ## the unit and kernel tiers alone
	@bash tests/run.sh unit

demo: ## a real pod gets a VF, a macvlan and an ipvlan beside its default network
	@bash tests/run.sh demo

bench: ## the ratios of docs/benchmarks.md; raw output in tests/bench/results/
	@bash tests/run.sh bench

image: build ## bin/tendril.tar, an OCI archive for $(ARCHS), and its bill of materials, without a container engine
	@for a in $(filter-out $(HOST),$(ARCHS)); do GOOS=linux GOARCH=$$a $(STATIC) -o $(BIN)/$$a/ $(INIMAGE) || exit 1; done
	$(GO) run ./tests/lab/cmd/image -name $(IMAGE) -version $(VERSION) -kinds '$(KINDS)' -o $(BIN)/tendril.tar \
		$(foreach a,$(ARCHS),-platform $(a)=$(if $(filter $(HOST),$(a)),$(BIN),$(BIN)/$(a)))

krew: ## kubectl-tendril for every platform, and Krew's manifest, into bin/krew (VERSION=v1.2.3)
	@mkdir -p $(BIN)/krew
	$(GO) run ./tests/krew/cmd/krew -version $(VERSION) -o $(BIN)/krew

manifests: ## deployment/manifests from the chart
	$(GO) run ./tests/chart/cmd/manifests

chart: ## bin/tendril-<version>.tgz, for helm install
	@mkdir -p $(BIN)
	$(GO) run ./tests/chart/cmd/manifests -package $(BIN)

clean: ## what was built; the lab's cache (.lab) stays
	rm -rf $(BIN)
