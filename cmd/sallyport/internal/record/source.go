package record

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"sallyport.dev/sallyport/pkg/contract"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Each is handed records; an error ends the reading.
type Each func(r *telemetry.Record) error

// poll is how often a file is looked at for more.
const poll = 200 * time.Millisecond

// Follow hands over the records of a file, the last ones first read at its end: what is there already where whole says so, and what is added
// until ctx is done. A file that is not there yet is waited for; one that was replaced is read from its beginning.
func Follow(ctx context.Context, file string, whole bool, each Each) error {
	var (
		f    *os.File
		rest []byte
	)
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for first := true; ; first = false {
		if f == nil {
			var err error
			if f, err = os.Open(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // names the file
			}
			if err == nil && first && !whole {
				if _, err := f.Seek(0, io.SeekEnd); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
			}
			if err != nil {
				f = nil
			}
		}
		if f != nil {
			more, err := io.ReadAll(f)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if rest, err = lines(append(rest, more...), each); err != nil {
				return err
			}
			if len(rest) > telemetry.MaxLine {
				return fmt.Errorf("%s: line of more than %d bytes", file, telemetry.MaxLine)
			}
			now, err := os.Stat(file)
			if was, serr := f.Stat(); len(more) == 0 && (err != nil || serr != nil || !os.SameFile(now, was)) {
				_ = f.Close()
				f, rest = nil, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lines hands over the records of whole lines and returns what follows the last. What is no record is passed over: the file may be a log.
func lines(b []byte, each Each) (rest []byte, err error) {
	for {
		line, after, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return b, nil
		}
		b = after
		if r, _, perr := telemetry.ParseLine(line); perr == nil && r != nil {
			if err := each(r); err != nil {
				return b, err
			}
		}
	}
}

// Cluster is where to read the sidecars' logs.
type Cluster struct {
	client *kubernetes.Clientset
	// Namespace whose pods are read; "" for all.
	Namespace string
}

// OpenCluster uses the kubeconfig as kubectl does. An empty namespace is the context's, unless all.
func OpenCluster(namespace string, all bool) (*Cluster, error) {
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{})
	rest, err := config.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	c := &Cluster{client: client, Namespace: namespace}
	if namespace == "" && !all {
		if c.Namespace, _, err = config.Namespace(); err != nil {
			return nil, fmt.Errorf("find the cluster: %w", err)
		}
	}
	return c, nil
}

func hasSidecar(p *corev1.Pod) bool {
	for _, c := range p.Spec.InitContainers {
		if c.Name == contract.ProxyContainerName {
			return true
		}
	}
	return false
}

// Read hands over the records in the logs of the sidecars that are there, one pod after the other. It says how many pods it read. A log that cannot be read, such as
// that of a pod that is just starting, does not keep it from the others: the error then says which those were.
func (c *Cluster) Read(ctx context.Context, each Each) (pods int, err error) {
	list, err := c.client.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list pods: %w", err)
	}
	var unread []error
	for i := range list.Items {
		p := &list.Items[i]
		if !hasSidecar(p) {
			continue
		}
		err := c.log(ctx, p, &corev1.PodLogOptions{}, each)
		var stop *stopped
		switch {
		case errors.As(err, &stop):
			return pods, stop.err
		case ctx.Err() != nil:
			return pods, ctx.Err()
		case err != nil:
			unread = append(unread, err)
		default:
			pods++
		}
	}
	return pods, errors.Join(unread...)
}

// Follow hands over the records of the sidecars that are there and of those that come, as they are written, until ctx is done. Records are
// those of the last while, and what follows. Trouble with a single pod is told and does not end it.
func (c *Cluster) Follow(ctx context.Context, since time.Duration, each Each, trouble func(error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg sync.WaitGroup
		mu sync.Mutex // of each, and of reading
	)
	defer wg.Wait()
	one := func(r *telemetry.Record) error {
		mu.Lock()
		defer mu.Unlock()
		return each(r)
	}
	reading := map[string]bool{}
	options := &corev1.PodLogOptions{Follow: true, SinceSeconds: seconds(since)}
	follow := func(p *corev1.Pod) {
		key := string(p.UID)
		mu.Lock()
		defer mu.Unlock()
		if reading[key] || !started(p) {
			return
		}
		reading[key] = true
		wg.Go(func() {
			if err := c.log(ctx, p, options, one); err != nil && ctx.Err() == nil {
				var stop *stopped
				if errors.As(err, &stop) {
					cancel(stop.err)
					return
				}
				trouble(err)
			}
			mu.Lock()
			defer mu.Unlock()
			delete(reading, key) // it may start again
		})
	}
	for ctx.Err() == nil {
		w, err := c.client.CoreV1().Pods(c.Namespace).Watch(ctx, metav1.ListOptions{})
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return fmt.Errorf("watch pods: %w", err)
		}
		for event := range w.ResultChan() {
			if p, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Deleted && hasSidecar(p) {
				follow(p)
			}
		}
		w.Stop()
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func started(p *corev1.Pod) bool {
	for _, s := range p.Status.InitContainerStatuses {
		if s.Name == contract.ProxyContainerName {
			return s.State.Running != nil
		}
	}
	return false
}

func seconds(d time.Duration) *int64 {
	s := max(1, int64(d.Round(time.Second)/time.Second))
	return &s
}

// stopped carries the error of an Each through the reading of a log.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }
func (s *stopped) Unwrap() error { return s.err }

// log hands over the records in one sidecar's log.
func (c *Cluster) log(ctx context.Context, p *corev1.Pod, o *corev1.PodLogOptions, each Each) error {
	o = o.DeepCopy()
	o.Container = contract.ProxyContainerName
	stream, err := c.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, o).Stream(ctx)
	if err != nil {
		return fmt.Errorf("log of %s/%s: %w", p.Namespace, p.Name, err)
	}
	defer func() { _ = stream.Close() }()
	in := bufio.NewScanner(stream)
	in.Buffer(nil, telemetry.MaxLine)
	for in.Scan() {
		if r, _, err := telemetry.ParseLine(in.Bytes()); err == nil && r != nil {
			if err := each(r); err != nil {
				return &stopped{err}
			}
		}
	}
	if err := in.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("log of %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}
