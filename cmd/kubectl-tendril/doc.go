// Command kubectl-tendril is the command line for people, a kubectl plugin:
//
//	kubectl tendril lint [--cluster] [--namespace NS] FILE...
//
// lint judges networks, pods and VF policies by the code that the webhook runs:
// offline, or with what the current cluster has. It exits with 0 when nothing is
// denied, 1 when something is, 2 when a file or the command line cannot be read.
package main
