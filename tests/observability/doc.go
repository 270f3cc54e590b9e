// Package observability reads docs/observability.md, so that tests can hold it
// against what the programs export, log and emit; and tests dashboard and alert
// rules against it. What the document, the code, the dashboard and the alerts say
// of one name is thereby the same.
package observability
