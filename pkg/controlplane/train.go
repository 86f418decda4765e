package controlplane

import (
	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
)

// train makes the model.
func (j *job) train() (*detector.Model, error) {
	o := j.options
	o.Prior = j.prior
	for i := range j.labels {
		o.Feedback = append(o.Feedback, detector.Labelled{Row: j.labels[i].row, Attack: j.labels[i].label == v1alpha1.LabelAttack})
	}
	return detector.Train(j.rows, o)
}
