// Package features turns a model call into numbers.
package features
