// Package house holds the rules of the house as tests: which folders exist,
// which way imports point, that every package says what it owns. Each rule has
// its reason beside it, and a rule without a reason is not a rule.
package house
