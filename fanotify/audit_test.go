package fanotify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// auditLog hears what the kernel writes to the audit log (NETLINK_AUDIT), which is switched on until the test ends.
type auditLog struct {
	t  *testing.T
	fd int
}

// Parts of the audit protocol (linux/audit.h).
const (
	auditGet            = 1000
	auditSet            = 1001
	auditFanotify       = 1331
	auditStatusEnabled  = 1 // the bit of the field in the mask of struct audit_status
	auditStatusSize     = 40
	auditReadLogGroup   = 1
	netlinkMessageStart = unix.SizeofNlMsghdr
)

func newAuditLog(t *testing.T) *auditLog {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, new(unix.NsecToTimeval(patience.Nanoseconds()))),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, auditReadLogGroup))
	l := &auditLog{t, fd}
	l.send(auditGet, 0, nil)
	enabled := binary.NativeEndian.Uint32(l.next(auditGet)[4:])
	if enabled == 0 {
		l.enable(1)
		t.Cleanup(func() { l.enable(0) })
	}
	return l
}

func (l *auditLog) enable(value uint32) {
	status := make([]byte, auditStatusSize)
	binary.NativeEndian.PutUint32(status, auditStatusEnabled)
	binary.NativeEndian.PutUint32(status[4:], value)
	l.send(auditSet, unix.NLM_F_ACK, status)
	if errno := int32(binary.NativeEndian.Uint32(l.next(unix.NLMSG_ERROR))); errno != 0 {
		l.t.Errorf("switch auditing: %v", unix.Errno(-errno))
	}
}

func (l *auditLog) send(kind, flags uint16, body []byte) {
	l.t.Helper()
	m := binary.NativeEndian.AppendUint32(nil, uint32(netlinkMessageStart+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|flags)
	m = append(m, make([]byte, 8)...) // sequence number, port
	check(l.t, unix.Sendto(l.fd, append(m, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// next returns the body of the next message of a kind.
func (l *auditLog) next(kind uint16) []byte {
	l.t.Helper()
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(l.fd, buf, 0)
		if err != nil || n < netlinkMessageStart {
			l.t.Fatalf("no message %d from the audit system: %d bytes, %v", kind, n, err)
		}
		if binary.NativeEndian.Uint16(buf[4:]) == kind {
			return buf[netlinkMessageStart:n]
		}
	}
}

// TestAuditRecords shows what answers leave in the audit log: a record for each that asks for one, and the rule in it.
//
// Proves FAN_AUDIT, FAN_INFO, FAN_RESPONSE_INFO_AUDIT_RULE.
func TestAuditRecords(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureAudit))
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	log := newAuditLog(t)
	for _, tt := range []struct {
		response Response
		want     string
	}{
		{Response{Deny: true, Audit: true}, "resp=2 fan_type=0 fan_info=0 subj_trust=2 obj_trust=2"},
		{Response{Audit: true}, "resp=1 fan_type=0 fan_info=0 subj_trust=2 obj_trust=2"},
		{Response{Deny: true, Audit: true, Rule: &AuditRule{Number: 42, SubjectTrust: TrustYes, ObjectTrust: TrustNo}},
			"resp=2 fan_type=1 fan_info=2A subj_trust=1 obj_trust=0"},
		{Response{Audit: true, Rule: &AuditRule{Number: 1 << 31, SubjectTrust: TrustUnknown, ObjectTrust: TrustYes}},
			"resp=1 fan_type=1 fan_info=80000000 subj_trust=2 obj_trust=1"},
	} {
		t.Run(tt.response.String(), func(t *testing.T) {
			g, open := asking(t, Config{Audit: true}, name)
			answer(t, g, func() error { open(); return nil }, func(e *Event) string { //nolint:errcheck // Some are denied.
				check(t, e.Respond(tt.response))
				return ""
			})
			// What other programs answer may stand between.
			for got := ""; !strings.HasSuffix(got, tt.want); {
				got = string(bytes.TrimRight(log.next(auditFanotify), "\x00\n"))
				fmt.Fprintln(t.Output(), got)
			}
		})
	}
}
