// Package apicalls owns the numbers about requests to the API server: how many, how
// they were answered, how long they took and how long they were held back here.
// client-go tells them to the process, so they are the process' too: every client
// that it has counts.
//
// Collectors may be called at any time, by any number of goroutines.
package apicalls
