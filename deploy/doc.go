// Package deploy holds no code: the manifests beside this file are what is installed. Its tests build every overlay
// and hold it to what the code expects.
package deploy
