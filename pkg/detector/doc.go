// Package detector is the first door: a workload's isolation forest with its calibration.
package detector
