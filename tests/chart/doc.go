// Package chart renders deployment/chart/tendril as Helm does, with Helm's own
// engine, and knows the plain manifests that are made from it. It is here and not
// in the product because only who changes the chart, and the tests, need Helm.
//
// Invariants:
//
//  1. [Plain] is a function of the chart and of the definitions alone: the same
//     tree gives the same bytes.
//  2. Values go through the chart's schema first, as with every command of Helm.
//
// It holds no state; everything may be called concurrently.
package chart
