// Command kubectl-tendril is the command line for people, a kubectl plugin. Its
// verbs, flags and exit codes are in docs/cli.md and in package cli; this package
// is their main alone.
package main
