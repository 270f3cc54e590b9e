// Package cache owns the one ignored folder in which the lab keeps everything
// it downloads or builds: package trees, kernels, disk images, programs.
//
// Invariants:
//
//  1. An artefact is a directory named by what it is and by a hash of all its
//     inputs; once it has that name it is complete and nothing changes it.
//  2. It is built in a temporary directory beside it and renamed into place, so
//     a build that dies leaves nothing that looks finished.
//  3. One process builds an artefact at a time, whoever else wants it waits on
//     its lock file and then uses the result.
//  4. Nothing is installed on the host: packages are only unpacked, and run
//     through the dynamic loader they were unpacked with.
//
// All functions may be called concurrently, from any number of processes.
package cache
