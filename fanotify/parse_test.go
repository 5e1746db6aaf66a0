package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// batchOf returns a batch as if a read of group had brought these events.
func batchOf(group *Group, events ...[]byte) *Batch {
	b := &Batch{queue: newQueue()}
	b.queue.rest = slices.Concat(events...)
	b.queue.group = group
	return b
}

// record returns an information record with a body.
func record(t RecordType, body ...byte) []byte {
	b := []byte{byte(t), 0, 0, 0}
	binary.NativeEndian.PutUint16(b[2:], uint16(recordHeader+len(body)))
	return append(b, body...)
}

func pidfdRecord(pidfd int) []byte {
	return record(RecordPIDFD, u32(uint32(int32(pidfd)))...)
}

func native64(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

var handle12 = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func TestParseRecords(t *testing.T) {
	id := FSID{1, 2, 3, 4, 5, 6, 7, 8}
	want := NewHandle(id, 0x81, handle12)
	unknown := record(99, 1, 2, 3, 4)
	raw := metadata(Rename|1<<40, -1, 7,
		handleRecord(RecordOldDFIDName, handle12, []byte("old")),
		unknown,
		handleRecord(RecordNewDFIDName, handle12, []byte("a name\n\xff")),
		handleRecord(RecordFID, handle12, nil),
		handleRecord(RecordDFID, handle12, nil),
		pidfdRecord(unix.FAN_NOPIDFD),
		record(RecordError, append(u32(117), u32(3)...)...),
		record(RecordRange, append([]byte{0, 0, 0, 0}, native64(4096, 8192)...)...),
		record(RecordMnt, append([]byte{0, 0, 0, 0}, native64(1<<40)...)...),
		handleRecord(RecordFID, []byte{9}, nil), // a second one of a type is data
	)
	e := Event{held: new(held)}
	n, perr := e.parse(raw)
	if perr != nil || n != len(raw) {
		t.Fatal(n, perr)
	}
	if e.Mask != Rename|1<<40 || e.PID != 7 {
		t.Error(e.Mask, e.PID)
	}
	if got, ok := e.Old(); !ok || Handle(got.Dir) != want || string(got.Name) != "old" {
		t.Errorf("old %q %v", got, ok)
	}
	if got, ok := e.New(); !ok || Handle(got.Dir) != want || string(got.Name) != "a name\n\xff" {
		t.Errorf("new %q %v", got, ok)
	}
	if got, ok := e.Dir(); !ok || Handle(got.Dir) != want || got.Name != nil {
		t.Errorf("dir %q %v", got, ok)
	}
	if got := e.Object(); Handle(got) != want || got.FSID() != id {
		t.Errorf("object %q", got)
	}
	if errno, count, ok := e.FSError(); errno != unix.EUCLEAN || count != 3 || !ok {
		t.Error(errno, count, ok)
	}
	if offset, count, ok := e.Range(); offset != 4096 || count != 8192 || !ok {
		t.Error(offset, count, ok)
	}
	if id, ok := e.MountID(); id != 1<<40 || !ok {
		t.Error(id, ok)
	}
	if _, err := e.PIDFD(); !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	var types []RecordType
	for r := range e.Records() {
		types = append(types, r.Type)
		if r.Type == 99 && !slices.Equal(r.Data, unknown) {
			t.Errorf("unknown record is %x, want %x", r.Data, unknown)
		}
	}
	if diff := cmp.Diff([]RecordType{10, 99, 12, 1, 3, 4, 5, 6, 7, 1}, types); diff != "" {
		t.Error(diff)
	}
	for range e.Records() {
		break
	}
	if got := want.String(); got != fmt.Sprintf("%s 81 0102030405060708090a0b0c", id) {
		t.Error(got)
	}
}

func TestParseNothing(t *testing.T) {
	var zero, bare Event
	if _, err := bare.parse(metadata(Open, -1, 1)); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*Event{"zero": &zero, "bare": &bare, "detached": bare.Detach()} {
		t.Run(name, func(t *testing.T) {
			_, dir := e.Dir()
			_, old := e.Old()
			_, to := e.New()
			_, mnt := e.MountID()
			_, _, fsError := e.FSError()
			_, _, bytes := e.Range()
			if dir || old || to || mnt || fsError || bytes || e.Object() != nil {
				t.Error("something came out of nothing")
			}
			_, err := e.File()
			_, perr := e.PIDFD()
			if err != ErrNoDescriptor || perr != ErrNoDescriptor {
				t.Error(err, perr)
			}
			for r := range e.Records() {
				t.Error(r)
			}
			e.Close()
		})
	}
}

// set returns a copy of b with the bytes at an offset replaced.
func set(b []byte, at int, values ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], values)
	return b
}

func u16(v uint16) []byte { return binary.NativeEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func TestParseMalformed(t *testing.T) {
	good := metadata(Open, -1, 1, handleRecord(RecordDFIDName, handle12, []byte("abc")))
	const recordAt = metadataSize
	for _, tt := range []struct {
		name   string
		bad    []byte
		offset int
		reason string
		ends   bool // nothing behind it can be told
	}{
		{"cut off metadata", good[:metadataSize-1], 0, "cut off metadata", true},
		{"one byte", good[:1], 0, "cut off metadata", true},
		{"short event", set(good, 0, u32(23)...), 0, "event length 23", true},
		{"long event", set(good, 0, u32(1<<32-1)...), 0, "event length 4294967295", true},
		{"version", set(good, 4, 2), 4, "metadata version 2", false},
		{"short metadata", set(good, 6, u16(20)...), 6, "metadata length 20", false},
		{"long metadata", set(good, 6, 0xff, 0xff), 6, "metadata length 65535", false},
		{"record length 0", set(good, recordAt+2, 0, 0), recordAt, "record length", false},
		{"record length 3", set(good, recordAt+2, u16(3)...), recordAt, "record length", false},
		{"record beyond", set(good, recordAt+2, 0xff, 0xff), recordAt, "record length", false},
		{"half a header", metadata(Open, -1, 1, []byte{1, 0}), recordAt, "record length", false},
		{"handle beyond", set(good, recordAt+12, u32(200)...), recordAt, "cut off handle", false},
		{"handle far beyond", set(good, recordAt+12, 0xff, 0xff, 0xff, 0xff), recordAt, "cut off handle", false},
		{"handle fills record", metadata(Open, -1, 1, handleRecord(RecordDFIDName, handle12, nil)), recordAt, "cut off handle", false},
		{"no handle", metadata(Open, -1, 1, record(RecordFID)), recordAt, "cut off record", false},
		{"name without end", set(good, len(good)-1, 'x'), recordAt, "name without an end", false},
		{"short pidfd", metadata(Open, -1, 1, record(RecordPIDFD, 1, 2)), recordAt, "cut off record", false},
		{"short error", metadata(Open, -1, 1, record(RecordError, 1, 2, 3, 4)), recordAt, "cut off record", false},
		{"short range", metadata(Open, -1, 1, record(RecordRange, native64(1)...)), recordAt, "cut off record", false},
		{"short mount", metadata(Open, -1, 1, record(RecordMnt, 1, 2, 3, 4)), recordAt, "cut off record", false},
		{"second record", metadata(Open, -1, 1, record(50), record(RecordMnt)), recordAt + 4, "cut off record", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			var perr *ParseError
			for e, err := range batchOf(nil, good, tt.bad, good).Events() {
				switch {
				case errors.As(err, &perr):
					got = append(got, "malformed")
				case err != nil:
					t.Fatal(err)
				default:
					got = append(got, describeNames(e))
				}
			}
			want := []string{"open abc", "malformed", "open abc"}
			if tt.ends && len(tt.bad) >= metadataSize {
				want = want[:2]
			}
			if len(tt.bad) < metadataSize { // the next event completes it: garbage, but bounded
				got, want = got[:2], want[:2]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			if text := fmt.Sprintf("malformed fanotify event at byte %d: %s", perr.Offset, perr.Reason); perr.Error() != text {
				t.Error(perr)
			}
			if len(tt.bad) >= metadataSize && (perr.Offset != len(good)+tt.offset || !strings.HasPrefix(perr.Reason, tt.reason)) {
				t.Errorf("got %v, want byte %d: %s", perr, len(good)+tt.offset, tt.reason)
			}
			if len(tt.bad) < metadataSize {
				var e Event
				if n, err := e.parse(tt.bad); n != len(tt.bad) || err == nil || err.Reason != tt.reason {
					t.Error(n, err)
				}
			}
		})
	}
}

// open returns a new descriptor.
func open(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestDescriptorsAreClosedOnce(t *testing.T) {
	fd, pidfd, badFD, badPIDFD, keptFD, keptPIDFD, leftFD := open(t), open(t), open(t), open(t), open(t), open(t), open(t)
	b := batchOf(nil,
		metadata(Open, int32(fd), 1, pidfdRecord(pidfd)),
		metadata(Open, int32(badFD), 1, record(RecordFID), pidfdRecord(badPIDFD), record(1)[:2]),
		metadata(Open, int32(keptFD), 1, pidfdRecord(keptPIDFD)),
		metadata(Open, int32(leftFD), 1))
	step := 0
	var kept *Event
	for e, err := range b.Events() {
		step++
		switch step {
		case 1:
			if !isOpen(fd) || !isOpen(pidfd) {
				t.Error("closed before the next step")
			}
		case 2:
			if err == nil || e != nil {
				t.Error("malformed event yields", e, err)
			}
			for _, n := range []int{fd, pidfd, badFD, badPIDFD} {
				if isOpen(n) {
					t.Errorf("%d is left open", n)
				}
			}
		case 3:
			kept = e.Detach()
			if _, err := e.File(); err != ErrNoDescriptor {
				t.Error("the borrowed event still has a descriptor:", err)
			}
			if _, err := e.PIDFD(); err != ErrNoDescriptor {
				t.Error("the borrowed event still has a pidfd:", err)
			}
		}
		if step == 3 {
			break
		}
	}
	if !isOpen(keptFD) || !isOpen(keptPIDFD) {
		t.Fatal("Detach did not keep the descriptors")
	}
	b.Close()
	if isOpen(leftFD) {
		t.Error("Batch.Close left a descriptor open")
	}
	b.Close()

	pidfile, err := kept.PIDFD()
	if err != nil || int(pidfile.Fd()) != keptPIDFD {
		t.Fatal(pidfile, err)
	}
	if _, err := kept.PIDFD(); err != ErrNoDescriptor {
		t.Error("a second PIDFD:", err)
	}
	kept.Close()
	if isOpen(keptFD) {
		t.Error("Close left the descriptor open")
	}
	kept.Close()
	if !isOpen(keptPIDFD) {
		t.Error("Close closed what was handed over")
	}
	check(t, pidfile.Close())
}

func TestDescriptorErrors(t *testing.T) {
	with := &Group{config: Config{Report: ReportFDError | ReportPIDFD}}
	without := &Group{config: Config{Report: ReportPIDFD}}
	for _, tt := range []struct {
		name      string
		group     *Group
		fd, pidfd int32
		file, pid error
	}{
		{"none", without, unix.FAN_NOFD, unix.FAN_NOPIDFD, ErrNoDescriptor, os.ErrProcessDone},
		{"no pidfd", without, unix.FAN_NOFD, unix.FAN_EPIDFD, ErrNoDescriptor, errPIDFD},
		{"no object, process gone", with, -int32(unix.EBADF), -int32(unix.ESRCH), ErrNoDescriptor, os.ErrProcessDone},
		{"errnos", with, -int32(unix.ETXTBSY), -int32(unix.EMFILE), unix.ETXTBSY, unix.EMFILE},
		{"EPERM is -1", with, -int32(unix.EPERM), -int32(unix.EPERM), unix.EPERM, unix.EPERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for e, err := range batchOf(tt.group, metadata(Open, tt.fd, 1, pidfdRecord(int(tt.pidfd)))).Events() {
				check(t, err)
				for range 2 { // nothing is handed over: the answer stays
					if _, err := e.File(); err != tt.file {
						t.Errorf("File: %v, want %v", err, tt.file)
					}
					if _, err := e.PIDFD(); err != tt.pid {
						t.Errorf("PIDFD: %v, want %v", err, tt.pid)
					}
				}
			}
		})
	}
}

func TestEventsKeepTheRest(t *testing.T) {
	b := batchOf(nil, metadata(Open, -1, 1), metadata(Open, -1, 2), metadata(Open, -1, 3))
	var ahead, pids []int32
	for e := range b.Ahead(new(Event)) {
		ahead = append(ahead, e.PID)
	}
	for e := range b.Events() {
		pids = append(pids, e.PID)
		break
	}
	for e := range b.Events() {
		pids = append(pids, e.PID)
	}
	for e := range b.Events() {
		t.Error("an event came twice:", e)
	}
	if !slices.Equal(pids, []int32{1, 2, 3}) || !slices.Equal(ahead, pids) {
		t.Error(pids, ahead)
	}
}

// TestAheadOwnsNothing shows that looking ahead leaves descriptors to the loop behind it, whatever is done there.
func TestAheadOwnsNothing(t *testing.T) {
	fd, pidfd := open(t), open(t)
	b := batchOf(nil, metadata(Open, int32(fd), 1, pidfdRecord(pidfd)), metadata(Open, -1, 2, record(RecordFID)))
	n := 0
	for e := range b.Ahead(new(Event)) {
		n++
		_, err := e.File()
		_, perr := e.PIDFD()
		if err != ErrNoDescriptor || perr != ErrNoDescriptor {
			t.Error(err, perr)
		}
		e.Close()
	}
	if n != 1 || !isOpen(fd) || !isOpen(pidfd) {
		t.Error("looking ahead took something:", n)
	}
	b.Close()
	if isOpen(fd) || isOpen(pidfd) {
		t.Error("left open")
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	one := metadata(Create|CloseWrite, -1, 4711, handleRecord(RecordDFIDName, handle12, []byte("name")),
		handleRecord(RecordFID, handle12, nil), pidfdRecord(unix.FAN_NOPIDFD), record(77, 1, 2, 3, 4))
	buf := slices.Concat(one, one, one)
	m := map[Handle]int{NewHandle(FSID{1, 2, 3, 4, 5, 6, 7, 8}, 0x81, handle12): 1}
	b := batchOf(nil)
	found := 0
	allocs := testing.AllocsPerRun(100, func() {
		b.queue.rest = buf
		for e, err := range b.Events() {
			dir, ok := e.Dir()
			if err != nil || !ok {
				t.Fatal(err, ok)
			}
			found += m[Handle(dir.Dir)] + m[Handle(e.Object())]
			for r := range e.Records() {
				found += int(r.Type) * 0
			}
		}
	})
	if allocs != 0 || found != 101*3*2 {
		t.Errorf("%v allocations, %d found", allocs, found)
	}
}
