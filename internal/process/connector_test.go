package process

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParse checks that no bytes make the parsers of messages read beyond their end.
func FuzzParse(f *testing.F) {
	order := binary.NativeEndian
	cn := order.AppendUint32(make([]byte, netlinkHeader), indexProc)
	cn = order.AppendUint32(cn, valueProc)
	cn = append(cn, make([]byte, connectorMin-len(cn))...)
	for _, k := range []kind{kindAck, kindFork, kindExec, kindUID, kindGID, kindComm, kindExit, 0x80} {
		b := append([]byte{}, cn...)
		order.PutUint32(b[netlinkHeader+cnHeader:], uint32(k))
		f.Add(append(b, "0123456789abcdef01234567"...))
		f.Add(append(b, "01234567"...))
		f.Add(b)
	}
	stats := make([]byte, accountInode+8)
	order.PutUint32(stats[accountPID:], 7)
	order.PutUint32(stats[accountTGID:], 7)
	inner := order.AppendUint16(order.AppendUint16(nil, uint16(4+len(stats))), unix.TASKSTATS_TYPE_STATS)
	inner = append(inner, stats...)
	outer := order.AppendUint16(order.AppendUint16(make([]byte, netlinkHeader+genericHeader), uint16(4+len(inner))), unix.TASKSTATS_TYPE_AGGR_PID)
	whole := append(outer, inner...)
	if e, ok := parseEnding(whole); !ok || e.pid != 7 {
		f.Fatalf("%+v, %v", e, ok)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := parseConnector(b); ok && len(m.comm) > 16 {
			t.Errorf("%+v", m)
		}
		if e, ok := parseEnding(b); ok && len(e.comm) > maxCommLength {
			t.Errorf("%+v", e)
		}
	})
}

// A kernel before Linux 5.19 doesn't say what the program was; the rest is known.
func TestShortEnding(t *testing.T) {
	order := binary.NativeEndian
	stats := make([]byte, accountPPID+4)
	order.PutUint32(stats[accountPID:], 7)
	copy(stats[accountComm:], "touch")
	inner := order.AppendUint16(order.AppendUint16(nil, uint16(4+len(stats))), unix.TASKSTATS_TYPE_STATS)
	inner = append(inner, stats...)
	outer := order.AppendUint16(order.AppendUint16(make([]byte, netlinkHeader+genericHeader), uint16(4+len(inner))), unix.TASKSTATS_TYPE_AGGR_PID)
	e, ok := parseEnding(append(outer, inner...))
	if want := (ending{pid: 7, comm: "touch"}); !ok || e != want {
		t.Errorf("%+v, want %+v", e, want)
	}
}
