package controlplane

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
)

var template = corev1.PodTemplateSpec{
	ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
	Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
}

func controlledBy(o client.Object, apiVersion, kind string) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: o.GetName(), UID: o.GetUID(), Controller: &yes}
}

func (l *lab) reviewer(now func() time.Time) *Reviewer {
	l.t.Helper()
	r, err := NewReviewer(l.client, l.client, now)
	must(l.t, err)
	return r
}

func TestIdentityIsThePodOfTheToken(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	always := template.DeepCopy()
	always.Spec.RestartPolicy = corev1.RestartPolicyAlways
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web-7d4b9", OwnerReferences: []metav1.OwnerReference{
			controlledBy(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "1"}}, "apps/v1", "Deployment"),
		}},
		Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: *always},
	}
	l.create(set)
	lone := set.DeepCopy()
	lone.ObjectMeta = metav1.ObjectMeta{Namespace: namespace, Name: "lone"}
	l.create(lone)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "nightly-28999", OwnerReferences: []metav1.OwnerReference{
			controlledBy(&batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "nightly", UID: "2"}}, "batch/v1", "CronJob"),
		}},
		Spec: batchv1.JobSpec{Template: *template.DeepCopy()},
	}
	l.create(job)
	r := l.reviewer(time.Now)
	for _, tt := range []struct {
		name       string
		owner      []metav1.OwnerReference
		kind, want string
	}{
		{"of-deployment", []metav1.OwnerReference{controlledBy(set, "apps/v1", "ReplicaSet")}, "Deployment", "web"},
		{"of-replicaset", []metav1.OwnerReference{controlledBy(lone, "apps/v1", "ReplicaSet")}, "ReplicaSet", "lone"},
		{"of-cronjob", []metav1.OwnerReference{controlledBy(job, "batch/v1", "Job")}, "CronJob", "nightly"},
		{"of-statefulset", []metav1.OwnerReference{controlledBy(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", UID: "3"}}, "apps/v1", "StatefulSet")}, "StatefulSet", "db"},
		{"bare", nil, "Pod", "bare"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := l.pod(namespace, tt.name, tt.owner...)
			got, err := r.Authenticate(l.ctx, l.token(pod, v1alpha1.TokenAudience))
			if err != nil {
				t.Fatal(err)
			}
			want := xds.Identity{Namespace: namespace, ServiceAccount: "agent", Pod: tt.name, PodUID: string(pod.UID), Kind: tt.kind, Name: tt.want}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestTokensThatProveNothing(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	pod := l.pod(namespace, "agent")
	gone := l.pod(namespace, "gone")
	goneToken := l.token(gone, v1alpha1.TokenAudience)
	now := int64(0)
	must(t, l.client.Delete(l.ctx, gone, &client.DeleteOptions{GracePeriodSeconds: &now}))
	replaced := l.pod(namespace, "replaced")
	replacedToken := l.token(replaced, v1alpha1.TokenAudience)
	must(t, l.client.Delete(l.ctx, replaced, &client.DeleteOptions{GracePeriodSeconds: &now}))
	l.pod(namespace, "replaced")

	r := l.reviewer(time.Now)
	for _, tt := range []struct{ name, token string }{
		{"none", ""},
		{"no token at all", "abc"},
		{"of another audience", l.token(pod, "vault")},
		{"of no pod", l.token(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}, v1alpha1.TokenAudience)},
		{"of a pod that is gone", goneToken},
		{"of a pod that was replaced by another of its name", replacedToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := r.Authenticate(l.ctx, tt.token)
			if !errors.Is(err, xds.ErrUnauthenticated) {
				t.Errorf("got %+v, %v", id, err)
			}
		})
	}
}

func TestAnAnswerIsForgottenAfterAMinute(t *testing.T) {
	l := newLab(t)
	pod := l.pod(l.agents(nil), "agent")
	token := l.token(pod, v1alpha1.TokenAudience)
	at := time.Now()
	r := l.reviewer(func() time.Time { return at })
	if _, err := r.Authenticate(l.ctx, token); err != nil {
		t.Fatal(err)
	}
	now := int64(0)
	must(t, l.client.Delete(l.ctx, pod, &client.DeleteOptions{GracePeriodSeconds: &now}))
	at = at.Add(acceptedFor - time.Second)
	if _, err := r.Authenticate(l.ctx, token); err != nil {
		t.Errorf("within the minute: %v", err)
	}
	at = at.Add(2 * time.Second)
	if _, err := r.Authenticate(l.ctx, token); !errors.Is(err, xds.ErrUnauthenticated) {
		t.Errorf("after the minute: %v", err)
	}
}

func FuzzExpiry(f *testing.F) {
	f.Add("a.eyJleHAiOjE3MDAwMDAwMDB9.c")
	f.Add("..")
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, token string) {
		if at, ok := expiry(token); ok && at.Unix() <= 0 {
			t.Errorf("%v", at)
		}
	})
}

func FuzzServiceAccount(f *testing.F) {
	f.Add("system:serviceaccount:ns:name")
	f.Add("system:serviceaccount::")
	f.Add("admin")
	f.Fuzz(func(t *testing.T, username string) {
		namespace, name, ok := serviceAccount(username)
		if ok && username != "system:serviceaccount:"+namespace+":"+name {
			t.Errorf("%q read as %q, %q", username, namespace, name)
		}
	})
}
