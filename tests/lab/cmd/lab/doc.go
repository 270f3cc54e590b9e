// Command lab brings up machines with real SR-IOV NICs and runs things in them.
//
//	lab fetch                         download and build what machines and clusters need
//	lab run [-machines N] -- CMD...   run CMD here, with machines beside it
//	lab exec BINARY ARGS...           run a program in machine 1; for go test -exec
//	lab shell [N]                     a shell in machine N
//
// lab run sets TENDRIL_LAB_SOCKET for CMD; lab exec and lab shell use the lab
// that it names, or else boot one of their own for as long as they take.
// Nothing of a lab is left once its lab command has ended.
package main
