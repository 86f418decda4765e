package controlplane

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Labels of the ConfigMaps in which things are kept.
const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "sallyport-controller"
	componentLabel = "app.kubernetes.io/component"
)

// Kinds of things that are kept.
const (
	keptBundle   = "last-good"
	keptBaseline = "baseline"
	keptWordless = "baseline-wordless" // what was learned while there was no salt
	keptClock    = "clock"
)

// A ConfigMap holds a MiB at most. What is larger is cut into pieces, each in a ConfigMap of its own.
const (
	maxPieceBytes = 900 << 10
	maxPieces     = 16
	maxKeptBytes  = 64 << 20 // unzipped
)

// keeper keeps things in ConfigMaps of the controller's namespace, so that a restart does not lose them. Only the leader writes.
type keeper struct {
	client    client.Client
	reader    client.Reader // not a cache
	namespace string
	wrote     func(kind string, bytes int) // may be nil

	mu      sync.Mutex
	digests map[string]string // of what was read or written last, by the head's name
}

// errSuperseded says that somebody else has written since.
var errSuperseded = errors.New("another leader has written since")

// know remembers what is kept under a name.
func (k *keeper) know(name, digest string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.digests == nil {
		k.digests = map[string]string{}
	}
	k.digests[name] = digest
}

// kept is one thing that was kept.
type kept struct {
	id     string
	zipped []byte
}

// content is what was kept.
func (k kept) content() ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(k.zipped))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(r, maxKeptBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxKeptBytes {
		return nil, errors.New("too large")
	}
	return content, nil
}

func keptName(kind, id string) string {
	sum := sha256.Sum256([]byte(id))
	return "sallyport-" + kind + "-" + hex.EncodeToString(sum[:10])
}

// save keeps content under an id, in place of what was kept under it before, whoever wrote it. Where it takes several pieces, the head is written after them, so that what is
// found is either the old or the new.
func (k *keeper) save(ctx context.Context, kind, id string, content []byte) error {
	return k.write(ctx, kind, id, content, false)
}

// saveLast is save for a controller that stops, perhaps because it leads no longer: it does not write over what another leader wrote. The error wraps errSuperseded then.
func (k *keeper) saveLast(ctx context.Context, kind, id string, content []byte) error {
	return k.write(ctx, kind, id, content, true)
}

func (k *keeper) write(ctx context.Context, kind, id string, content []byte, last bool) error {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(content); err != nil {
		return fmt.Errorf("keep %s %s: %w", kind, id, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("keep %s %s: %w", kind, id, err)
	}
	sum := sha256.Sum256(zipped.Bytes())
	digest := hex.EncodeToString(sum[:])
	pieces := (zipped.Len() + maxPieceBytes - 1) / maxPieceBytes
	if pieces > maxPieces || len(content) > maxKeptBytes {
		return fmt.Errorf("keep %s %s: %d bytes are too many", kind, id, len(content))
	}

	head := k.object(kind, keptName(kind, id))
	err := k.reader.Get(ctx, client.ObjectKeyFromObject(head), head)
	exists := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("keep %s %s: %w", kind, id, err)
	}
	old := head.DeepCopy()
	if exists && old.Data["digest"] == digest {
		k.know(head.Name, digest)
		return nil
	}
	k.mu.Lock()
	known := k.digests[head.Name]
	k.mu.Unlock()
	if last && old.Data["digest"] != known {
		return fmt.Errorf("keep %s %s: %w", kind, id, errSuperseded)
	}
	head.Data = map[string]string{"id": id, "digest": digest, "pieces": strconv.Itoa(pieces)}
	head.BinaryData = nil
	if pieces == 1 {
		head.BinaryData = map[string][]byte{"content": zipped.Bytes()}
	} else {
		for i := range pieces {
			piece := k.object(kind, pieceName(head.Name, digest, i))
			piece.BinaryData = map[string][]byte{"content": zipped.Bytes()[i*maxPieceBytes : min((i+1)*maxPieceBytes, zipped.Len())]}
			if err := k.client.Create(ctx, piece); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("keep %s %s: %w", kind, id, err)
			}
		}
	}
	if exists {
		err = k.client.Update(ctx, head)
	} else {
		err = k.client.Create(ctx, head)
	}
	if err != nil {
		return fmt.Errorf("keep %s %s: %w", kind, id, err)
	}
	k.know(head.Name, digest)
	if k.wrote != nil {
		k.wrote(kind, zipped.Len())
	}
	return k.dropPieces(ctx, kind, old)
}

// remove drops what is kept under an id.
func (k *keeper) remove(ctx context.Context, kind, id string) error {
	head := k.object(kind, keptName(kind, id))
	err := k.reader.Get(ctx, client.ObjectKeyFromObject(head), head)
	k.know(head.Name, "")
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = client.IgnoreNotFound(k.client.Delete(ctx, head))
	}
	if err != nil {
		return fmt.Errorf("drop kept %s %s: %w", kind, id, err)
	}
	return k.dropPieces(ctx, kind, head)
}

// dropPieces deletes the pieces that a head had.
func (k *keeper) dropPieces(ctx context.Context, kind string, head *corev1.ConfigMap) error {
	pieces, _ := strconv.Atoi(head.Data["pieces"])
	if pieces <= 1 {
		return nil
	}
	for i := range min(pieces, maxPieces) {
		if err := k.client.Delete(ctx, k.object(kind, pieceName(head.Name, head.Data["digest"], i))); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("drop kept %s: %w", kind, err)
		}
	}
	return nil
}

// sweepAfter is how old a piece is that belongs to no head: a younger one may be of a write that is under way.
const sweepAfter = time.Hour

// sweep deletes what writes that were broken off have left of a kind: pieces of no head that each has read.
func (k *keeper) sweep(ctx context.Context, kind string, now time.Time) error {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMapList"))
	if err := k.reader.List(ctx, &list, client.InNamespace(k.namespace), client.MatchingLabels{managedByLabel: managedBy, componentLabel: kind}); err != nil {
		return fmt.Errorf("list kept %s: %w", kind, err)
	}
	heads := map[string]bool{}
	length := len(keptName(kind, ""))
	for i := range list.Items {
		if len(list.Items[i].Name) == length {
			heads[list.Items[i].Name] = true
		}
	}
	for i := range list.Items {
		piece := &list.Items[i]
		if len(piece.Name) <= length || now.Sub(piece.CreationTimestamp.Time) < sweepAfter {
			continue
		}
		head := piece.Name[:length]
		k.mu.Lock()
		digest, known := k.digests[head]
		k.mu.Unlock()
		if heads[head] && (!known || strings.HasPrefix(piece.Name, strings.TrimSuffix(pieceName(head, digest, 0), "0"))) {
			continue
		}
		if err := k.client.Delete(ctx, k.object(kind, piece.Name)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("drop piece of kept %s: %w", kind, err)
		}
	}
	return nil
}

// listed is how many ConfigMaps are read at a time.
const listed = 16

// each calls take with everything of a kind as it is read, and returns what is wrong with what cannot be read. What it gives to take is not unzipped yet, and take may keep it.
func (k *keeper) each(ctx context.Context, kind string, take func(kept)) (unusable []error, err error) {
	var next string
	for {
		var list corev1.ConfigMapList
		if err := k.reader.List(ctx, &list, client.InNamespace(k.namespace), client.Limit(listed), client.Continue(next),
			client.MatchingLabels{managedByLabel: managedBy, componentLabel: kind}); err != nil {
			return unusable, fmt.Errorf("list kept %s: %w", kind, err)
		}
		for i := range list.Items {
			head := &list.Items[i]
			id, ok := head.Data["id"]
			if !ok {
				continue // a piece
			}
			zipped, err := k.assemble(ctx, head)
			if err == nil && head.Name != keptName(kind, id) {
				err = errors.New("under a name that is not its own")
			}
			if errors.Is(err, errUnreachable) {
				return unusable, fmt.Errorf("read kept %s %s: %w", kind, id, err)
			}
			if err != nil {
				unusable = append(unusable, fmt.Errorf("kept %s %s: %w", kind, id, err))
				continue
			}
			k.know(head.Name, head.Data["digest"])
			take(kept{id: id, zipped: zipped})
		}
		if next = list.Continue; next == "" {
			return unusable, nil
		}
	}
}

// load returns everything of a kind that can be read, by its id, and what is wrong with the rest.
func (k *keeper) load(ctx context.Context, kind string) (all map[string][]byte, unusable []error, err error) {
	all = map[string][]byte{}
	var broken []error
	unusable, err = k.each(ctx, kind, func(one kept) {
		content, err := one.content()
		if err != nil {
			broken = append(broken, fmt.Errorf("kept %s %s: %w", kind, one.id, err))
			return
		}
		all[one.id] = content
	})
	if err != nil {
		return nil, nil, err
	}
	return all, append(unusable, broken...), nil
}

// errUnreachable says that the API did not answer, which is another thing than that something is missing.
var errUnreachable = errors.New("the API does not answer")

// assemble puts together what a head says, of its pieces.
func (k *keeper) assemble(ctx context.Context, head *corev1.ConfigMap) ([]byte, error) {
	pieces, err := strconv.Atoi(head.Data["pieces"])
	if err != nil || pieces < 1 || pieces > maxPieces {
		return nil, errors.New("number of pieces is wrong")
	}
	digest := head.Data["digest"]
	zipped := head.BinaryData["content"]
	if pieces > 1 {
		zipped = nil
		for i := range pieces {
			piece := &corev1.ConfigMap{}
			err := k.reader.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: pieceName(head.Name, digest, i)}, piece)
			if apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("piece %d is missing", i)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errUnreachable, err)
			}
			zipped = append(zipped, piece.BinaryData["content"]...)
		}
	}
	if sum := sha256.Sum256(zipped); hex.EncodeToString(sum[:]) != digest {
		return nil, errors.New("digest differs")
	}
	return zipped, nil
}

func pieceName(head, digest string, i int) string {
	return head + "-" + digest[:min(10, len(digest))] + "-" + strconv.Itoa(i)
}

func (k *keeper) object(kind, name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: k.namespace, Name: name, Labels: map[string]string{managedByLabel: managedBy, componentLabel: kind},
	}}
}
