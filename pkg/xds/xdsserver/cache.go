package xdsserver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/log"

	"sallyport.dev/sallyport/pkg/xds"
)

// scope is one type's resources for everyone who may see them: a namespace, a workload or a pod.
type scope struct {
	typeURL string
	key     string
}

// entry is a scope's cache, what is in it, and how many sessions are bound to it.
type entry struct {
	linear   *cache.LinearCache
	versions map[string]string
	sessions int
}

// scopes is a cache.Cache over one LinearCache for each scope. go-control-plane's MuxCache would do but for its map, which has no lock, and for its
// answer to a key that is missing, which ends the client's whole stream; here a scope without resources is an empty cache.
//
// The session that a request belongs to is found by the node's id, which the server itself has written (see boundStream).
type scopes struct {
	mu       sync.RWMutex
	entries  map[scope]*entry
	sessions map[string]*session
}

func newScopes() *scopes {
	return &scopes{entries: map[scope]*entry{}, sessions: map[string]*session{}}
}

var _ cache.Cache = (*scopes)(nil)

// CreateDeltaWatch watches the caches that the request's session is bound to. A type that nobody serves is never answered, so
// that a newer sidecar may ask an older control plane for more than it has.
func (c *scopes) CreateDeltaWatch(req *cache.DeltaRequest, sub cache.Subscription, responses chan cache.DeltaResponse) (func(), error) {
	c.mu.RLock()
	s := c.sessions[req.GetNode().GetId()]
	var linear *cache.LinearCache
	if s != nil {
		if key, ok := s.scopes[req.GetTypeUrl()]; ok {
			linear = c.entries[key].linear
		}
	}
	c.mu.RUnlock()
	if s == nil {
		return nil, errors.New("request of a session that is closed")
	}
	if linear == nil {
		return nil, nil
	}
	return linear.CreateDeltaWatch(req, sub, responses)
}

// CreateWatch refuses: only the delta protocol is served.
func (c *scopes) CreateWatch(*cache.Request, cache.Subscription, chan cache.Response) (func(), error) {
	return nil, errors.New("only delta discovery is served")
}

// Fetch refuses: only the delta protocol is served.
func (c *scopes) Fetch(context.Context, *cache.Request) (cache.Response, error) {
	return nil, errors.New("only delta discovery is served")
}

// bind registers a session and makes sure that its scopes exist.
func (c *scopes) bind(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[s.key] = s
	for _, key := range s.scopes {
		c.entry(key).sessions++
	}
}

// bound says whether any session is bound to the scope.
func (c *scopes) bound(key scope) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.entries[key]
	return e != nil && e.sessions > 0
}

// release undoes bind. Scopes that hold nothing and serve nobody are dropped, so that the map does not grow with every pod there ever was.
func (c *scopes) release(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s.key)
	for _, key := range s.scopes {
		e := c.entries[key]
		e.sessions--
		if e.sessions == 0 && (len(e.versions) == 0 || key.typeURL == xds.TypeConfig) {
			delete(c.entries, key)
		}
	}
}

// entry returns the scope's entry, made if need be. The lock is held by the caller.
func (c *scopes) entry(key scope) *entry {
	e := c.entries[key]
	if e == nil {
		e = &entry{linear: cache.NewLinearCache(key.typeURL, cache.WithLogger(log.LoggerFuncs{}))}
		c.entries[key] = e
	}
	return e
}

// set makes resources the whole content of the scope. Only what changed is sent to anyone.
func (c *scopes) set(key scope, resources map[string]types.Resource) error {
	return c.change(key, resources, true)
}

// add puts resources into the scope and leaves what else is there.
func (c *scopes) add(key scope, resources map[string]types.Resource) error {
	return c.change(key, resources, false)
}

func (c *scopes) change(key scope, resources map[string]types.Resource, whole bool) error {
	versions := make(map[string]string, len(resources))
	for name, r := range resources {
		b, err := cache.MarshalResource(r)
		if err != nil {
			return fmt.Errorf("encode %s %q: %w", key.typeURL, name, err)
		}
		versions[name] = cache.HashResource(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(resources) == 0 && c.entries[key] == nil {
		return nil
	}
	e := c.entry(key)
	update := map[string]types.Resource{}
	for name, r := range resources {
		if e.versions[name] != versions[name] {
			update[name] = r
		}
	}
	var gone []string
	for name, version := range e.versions {
		if _, ok := versions[name]; ok {
			continue
		}
		if whole {
			gone = append(gone, name)
		} else {
			versions[name] = version
		}
	}
	e.versions = versions
	if len(update) > 0 || len(gone) > 0 {
		if err := e.linear.UpdateResources(update, gone); err != nil {
			return fmt.Errorf("publish %s: %w", key.typeURL, err)
		}
	}
	if len(e.versions) == 0 && e.sessions == 0 {
		delete(c.entries, key)
	}
	return nil
}

// versions are the versions of what the scope holds. The map is not to be changed.
func (c *scopes) versions(key scope) map[string]string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.entries[key]; e != nil {
		return e.versions
	}
	return nil
}
