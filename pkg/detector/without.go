package detector

import "sallyport.dev/sallyport/pkg/features"

// Without returns options that train as if some features were not there: mask sets them to 0 in every row, after those that come of a comparison with the
// baseline were added. Whoever judges by such a model must do the same. It is for finding out what features are worth.
func (o Options) Without(mask func(*features.Vector)) Options {
	o.mask = mask
	return o
}
