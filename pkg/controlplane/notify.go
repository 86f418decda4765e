package controlplane

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// notifier tells a controller that something changed which is no Kubernetes object. However often it is poked within its delay, it tells
// once.
type notifier struct {
	delay  func() time.Duration
	poked  chan struct{}
	events chan event.GenericEvent
}

func newNotifier(delay time.Duration) *notifier {
	return &notifier{delay: func() time.Duration { return delay }, poked: make(chan struct{}, 1), events: make(chan event.GenericEvent)}
}

// poke never blocks.
func (n *notifier) poke() {
	select {
	case n.poked <- struct{}{}:
	default:
	}
}

// run passes pokes on until ctx is done.
func (n *notifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.poked:
		}
		timer := time.NewTimer(n.delay())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case n.events <- event.GenericEvent{}:
		}
	}
}

// source enqueues the requests that list returns at each notification.
func (n *notifier) source(list func(context.Context) []reconcile.Request) source.Source {
	return source.Channel(n.events, handler.Funcs{
		GenericFunc: func(ctx context.Context, _ event.GenericEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			for _, request := range list(ctx) {
				queue.Add(request)
			}
		},
	})
}

// all enqueues the same requests whatever object an event is about.
func all(list func(context.Context) []reconcile.Request) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request { return list(ctx) })
}
