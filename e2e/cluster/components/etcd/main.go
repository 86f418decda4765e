// Command etcd is the upstream etcd server; its own module cannot be built with
// go install because of the replace directives in it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
