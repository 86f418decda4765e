// Package sdkcheck holds tests of the codecs against the providers' own SDKs: what those send is read without any objection, what they
// understand of a response is what the watchers understand, and a refusal is raised as an error and not tried again. It has no code, and
// is a package of its own so that neither the codecs nor their fuzz tests are built with the SDKs.
package sdkcheck
