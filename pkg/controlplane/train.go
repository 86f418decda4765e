package controlplane

import (
	"slices"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
)

// train makes the model.
func (j *job) train() (*detector.Model, error) {
	rows := append(slices.Clone(j.rows), j.prior...)
	for i := range j.labels {
		if j.labels[i].label == v1alpha1.LabelFalsePositive {
			rows = append(rows, j.labels[i].row)
		}
	}
	return detector.Train(rows, j.options)
}
