// Package app is the controller's program: its options, and one manager that runs the webhook and the control plane until it is
// told to stop. Main calls
//
//	err := app.NewCommand().ExecuteContext(ctx)
package app
