package features

// SchemaID names this schema. It changes with any change of the features' number, order or meaning: a model of another schema is
// not applied.
const SchemaID = "sallyport.features/v1"

// Size is the number of features.
const Size = 44

// Feature documents one number of a Vector.
type Feature struct {
	// Name is stable within a schema: lower case with a dot between group and feature.
	Name string
	// Unit of the value before its transform.
	Unit string
	// Transform is "log1p", "flag" or "none".
	Transform string
	// Doc says what it is and why it is looked at.
	Doc string
}

// Vector holds one call's features in the order of Schema. Its numbers are always finite.
type Vector [Size]float32

// Schema documents the features in the order of a Vector.
var Schema [Size]Feature
