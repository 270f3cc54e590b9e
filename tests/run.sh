#!/usr/bin/env bash
# The steps behind `make test`, `make demo`, `make bench` and `make lab-shell`.
# Usage: tests/run.sh all|unit|demo|bench|shell
set -euo pipefail
cd "$(dirname "$0")/.."
start=$SECONDS

say() { printf '\n== %4ds  %s\n' $((SECONDS - start)) "$*"; }

lab_build() { CGO_ENABLED=0 go build -o bin/lab ./tests/lab/cmd/lab; }

# Packages with tests for the machine (build tag lab) and for the cluster.
tagged() { grep -rl --include='*_test.go' "^//go:build $1\$" . | xargs -n1 dirname | sort -u; }

unit() {
  say "unit and kernel tiers"
  go test -count=1 ./...
}

lab() {
  say "lab tier: tests inside machines with real VFs, a new machine for each package"
  # An emulated machine is one thread: two of them are what two cores do at once.
  go test -p 2 -count=1 -tags lab -timeout 20m -exec "$PWD/bin/lab exec" $(tagged lab)
}

# clusters plays the suites, those first on which the others stand.
clusters() {
  say "cluster tier: real Kubernetes on two machines"
  make --no-print-directory image ARCHS="$(go env GOARCH)"
  local first="./tests/lab ./tests/lab/cluster ./tests/e2e"
  # One after the other: a cluster takes all of two cores.
  go test -p 1 -count=1 -tags cluster -timeout 30m -v $first $(tagged cluster | grep -vxF "$(tr ' ' '\n' <<< "$first")")
}

fetch() {
  lab_build
  bin/lab fetch
}

case "${1:-all}" in
  all)
    say "lint"
    make --no-print-directory lint
    say "the lab's programs and machine (kept in .lab)"
    fetch
    unit
    lab
    clusters
    say "all tiers passed"
    ;;
  unit) unit ;;
  demo)
    say "building Tendril and its image"
    make --no-print-directory image ARCHS="$(go env GOARCH)"
    say "the lab"
    CGO_ENABLED=0 go build -o bin/demo ./tests/demo
    exec bin/demo
    ;;
  bench)
    make --no-print-directory build
    go run ./tests/bench
    go run ./tests/bench/meta
    go run ./tests/bench/vf
    go run ./tests/bench/ipam
    go run ./tests/bench/admission
    ;;
  shell)
    make --no-print-directory image ARCHS="$(go env GOARCH)"
    CGO_ENABLED=0 go build -o bin/demo ./tests/demo
    exec bin/demo -shell
    ;;
  *) echo "usage: $0 all|unit|demo|bench|shell" >&2; exit 2 ;;
esac
