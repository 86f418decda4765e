// Command standind serves the stand-in providers of package standin: over TLS for the providers' hosts, over plain HTTP and UDP to
// show that nothing gets past a gate, and an admin port that says what arrived.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"sallyport.dev/sallyport/e2e/standin"
)

func main() {
	log, err := zap.NewProduction()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err = run(ctx, log, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal("standind", zap.Error(err))
	}
}

func run(ctx context.Context, log *zap.Logger, args []string) error {
	flags := flag.NewFlagSet("standind", flag.ContinueOnError)
	tlsListen := flags.String("tls", ":443,:8443", "addresses to serve the providers on over TLS, comma-separated")
	plainListen := flags.String("plain", ":80", "address to serve the same over plain HTTP")
	udpListen := flags.String("udp", ":443", "address to count datagrams on")
	adminListen := flags.String("admin", ":8080", "address of the admin port")
	cert := flags.String("cert", "/etc/standin/tls.crt", "certificate of the providers' hosts")
	key := flags.String("key", "/etc/standin/tls.key", "its key")
	var opts standin.Options
	flags.DurationVar(&opts.FirstByte, "first-byte", 40*time.Millisecond, "time before a response begins")
	flags.DurationVar(&opts.Gap, "gap", 20*time.Millisecond, "time between the events of a stream")
	if err := flags.Parse(args); err != nil {
		return err
	}
	opts.OpenAIKey, opts.AnthropicKey = os.Getenv("OPENAI_API_KEY"), os.Getenv("ANTHROPIC_API_KEY")
	server := standin.New(opts)

	var datagrams atomic.Int64
	admin := http.NewServeMux()
	admin.Handle("/", server.Admin())
	admin.HandleFunc("GET /datagrams", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]int64{"datagrams": datagrams.Load()})
	})

	failed := make(chan error, 8)
	var servers []*http.Server
	serve := func(addr string, h http.Handler, listen func(*http.Server) error) {
		srv := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
		servers = append(servers, srv)
		go func() {
			if err := listen(srv); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", addr, err)
			}
		}()
	}
	for _, addr := range strings.Split(*tlsListen, ",") {
		serve(addr, server, func(s *http.Server) error { return s.ListenAndServeTLS(*cert, *key) })
	}
	serve(*plainListen, server, (*http.Server).ListenAndServe)
	serve(*adminListen, admin, (*http.Server).ListenAndServe)

	udp, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", *udpListen)
	if err != nil {
		return fmt.Errorf("listen on udp %s: %w", *udpListen, err)
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			if _, _, err := udp.ReadFrom(buf); err != nil {
				return
			}
			datagrams.Add(1)
		}
	}()
	log.Info("serving", zap.String("tls", *tlsListen), zap.String("plain", *plainListen), zap.String("udp", *udpListen), zap.String("admin", *adminListen))

	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	_ = udp.Close()
	grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for _, s := range servers {
		_ = s.Shutdown(grace)
	}
	return err
}
