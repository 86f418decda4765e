package controlplane

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// Reasons of conditions.
const (
	reasonAccepted          = "Accepted"
	reasonInvalid           = "Invalid"
	reasonRefused           = "PolicyRefused"
	reasonModuleMissing     = "ModuleMissing"
	reasonHostConflict      = "HostConflict"
	reasonCredentialMissing = "CredentialMissing"
	reasonProgrammed        = "Programmed"
	reasonNoSidecars        = "NoSidecars"
	reasonPending           = "SidecarsPending"
	reasonSidecarRefused    = "SidecarRefused"
	reasonLastGood          = "LastGoodInForce"
	reasonNotInForce        = "NotInForce"
	reasonReady             = "Ready"
	reasonLearning          = "Learning"
	reasonFrozen            = "Frozen"
	reasonDrifting          = "Drifting"
	reasonPrior             = "SharedPrior"
	reasonFewCalls          = "FewCalls"
	reasonThresholdHeld     = "ThresholdHeld"
	reasonAdmitting         = "Admitting"
	reasonLabelsWait        = "LabelsWait"
	reasonNoRoom            = "NoRoom"
	reasonLimited           = "LittleRoom"
	reasonColdDeny          = "ColdDeny"
	reasonWordless          = "WithoutWords"
	reasonTrainingFailed    = "TrainingFailed"
	reasonTooFewCalls       = "TooFewCalls"
	reasonAsLearned         = "AsLearned"
	reasonWithinBudget      = "WithinBudget"
	reasonScoresSank        = "ScoresSank"
)

// maxConditionBytes is what the API accepts in a message, less a little.
const maxConditionBytes = 32_000

// unusable is an error in what a person wrote; trying again will not help.
type unusable struct{ message string }

func (u unusable) Error() string { return u.message }

func unusablef(format string, args ...any) error { return unusable{fmt.Sprintf(format, args...)} }

func isUnusable(err error) bool {
	var u unusable
	return errors.As(err, &u)
}

// setCondition sets a condition of an object at its present generation.
func setCondition(conditions *[]metav1.Condition, generation int64, kind string, ok bool, reason, message string) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	if len(message) > maxConditionBytes {
		message = message[:maxConditionBytes] + " …"
	}
	meta.SetStatusCondition(conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation})
}

// setReady sums up Accepted and, where the kind has it, Programmed.
func setReady(conditions *[]metav1.Condition, generation int64) {
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed} {
		if c := meta.FindStatusCondition(*conditions, kind); c != nil && c.Status != metav1.ConditionTrue {
			setCondition(conditions, generation, v1alpha1.ConditionReady, false, c.Reason, c.Message)
			return
		}
	}
	setCondition(conditions, generation, v1alpha1.ConditionReady, true, reasonReady, "")
}

// writeStatus writes an object's status where change changes it. The spec is never written. The whole status is sent: a merge patch would leave out
// a count that is zero before and after, which the schema requires.
func (p *Plane) writeStatus(ctx context.Context, object client.Object, change func()) error {
	before := object.DeepCopyObject().(client.Object) //nolint:forcetypeassert // a copy is of the type of the original
	change()
	if equality.Semantic.DeepEqual(before, object) {
		return nil
	}
	return client.IgnoreNotFound(p.client.Status().Update(ctx, object))
}
