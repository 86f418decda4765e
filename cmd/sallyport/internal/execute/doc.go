// Package execute is "sallyport exec": the gate around one command, without a cluster. It starts the proxy in this process, runs the command so
// that its calls come to the proxy, shows each decision as a line, and ends with the command's exit code.
//
// The command is sealed where the kernel allows it: it runs in a user, network and mount namespace of its own, in which the only way
// out is a listener whose descriptor this process holds. Nothing else is routed, and names are answered from made-up addresses, so that neither
// a packet nor a name leaves but through the gate. Where that is not possible, the command is only told of the
// proxy by its environment, and says so.
package execute
