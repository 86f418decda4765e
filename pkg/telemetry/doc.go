// Package telemetry is the decision record and the metrics: what Sallyport says of each call.
//
// There is one Record per decision. It goes out as one log line, as metrics and as an access-log entry to the
// control plane, and never holds text of the call.
package telemetry
