// Package process runs long-lived programs that outlive the command that started
// them, and finds them again.
//
// A program is started in a session of its own with its output in a log file. A record
// of its process id, its start time and a fingerprint of its command line and
// configuration is kept; with it a later command tells a program that still runs as
// wanted from one that is gone or was configured differently, and never signals a
// process that only happens to have got the same id. Nothing restarts a program that
// ends: the next Ensure does.
//
// The call most readers came for:
//
//	g := process.Group{Records: dir, Logs: logs}
//	started, err := g.Ensure(ctx, process.Spec{Name: "etcd", Path: path, Args: args, Ready: probe})
package process
