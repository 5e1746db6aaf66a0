package fanotify

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// TestResponsesAreCheckedAsByTheKernel gives every answer to a request that doesn't exist: the kernel says ENOENT only
// of an answer that it would take. What is refused here must be what it refuses, but for a rule without audit, which it
// takes and ignores.
//
// Proves FAN_ERRNO_SHIFT, FAN_AUDIT, FAN_INFO, FAN_RESPONSE_INFO_AUDIT_RULE.
func TestResponsesAreCheckedAsByTheKernel(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeaturePreAccess))
	fstest.NeedKernel(t, Supports(FeatureAudit))
	const nobody = 1 << 20 // no descriptor has this number
	taken := map[string]int{}
	for _, config := range []Config{
		{Class: ClassContent}, {Class: ClassContent, Audit: true}, {Class: ClassPreContent}, {Class: ClassPreContent, Audit: true},
	} {
		g := newGroup(t, config)
		for _, r := range everyResponse() {
			var err error
			encoded := r.append(nil, nobody)
			if r.Errno != unix.EPERM || !r.Deny { // which is encoded as a plain denial
				answer := binary.NativeEndian.Uint32(encoded[4:]) | uint32(r.Errno)<<unix.FAN_ERRNO_SHIFT
				binary.NativeEndian.PutUint32(encoded[4:], answer)
			}
			check(t, g.conn.Control(func(fd uintptr) { _, err = unix.Write(int(fd), encoded) }))
			if err != unix.ENOENT && err != unix.EINVAL {
				t.Fatalf("%s in %+v: %v", r, config, err)
			}
			refused := r.check(&config) != nil
			ignored := r.Rule != nil && !r.Audit
			if refused != (err == unix.EINVAL || ignored) {
				t.Errorf("%s in a group of %s with audit %v: the kernel says %v, here %v", r, config.Class, config.Audit, err, r.check(&config))
			}
			if !refused {
				taken[fmt.Sprint(config.Class, r.Deny, config.Audit)]++
			}
		}
	}
	// Without audit there is one answer, with it one more and the one with a rule; errnos are 0 and EPERM, or all
	// seven.
	want := map[string]int{
		"class_content false false": 1, "class_content false true": 3, "class_pre_content false false": 1, "class_pre_content false true": 3,
		"class_content true false": 2, "class_content true true": 6, "class_pre_content true false": 8, "class_pre_content true true": 24,
	}
	for kind, n := range want {
		if taken[kind] != n {
			t.Errorf("%s: %d answers are taken, want %d", kind, taken[kind], n)
		}
	}
}

// everyResponse returns all answers that differ in what the kernel looks at.
func everyResponse() (all []Response) {
	for errno := range unix.Errno(256) {
		for bits := range 8 {
			r := Response{Deny: bits&1 != 0, Errno: errno, Audit: bits&2 != 0}
			if bits&4 != 0 {
				r.Rule = &AuditRule{Number: 7, SubjectTrust: TrustYes, ObjectTrust: TrustUnknown}
			}
			all = append(all, r)
		}
	}
	return all
}
