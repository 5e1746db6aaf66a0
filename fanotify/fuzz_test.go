package fanotify

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The seeds in testdata hold what the kernel wrote: every kind of record, and a queue that overflowed.

// FuzzParse parses whatever it gets: no panic, an offset that lies in the event, every byte in the metadata or one
// record, every answer as a plain reading of the same bytes gives it. Then it puts the bytes between two valid events,
// with a length that is right: both must come.
func FuzzParse(f *testing.F) {
	valid := metadata(Create, -1, 1, handleRecord(RecordDFIDName, handle12, []byte("valid")))
	f.Add(valid)
	f.Add(metadata(Rename, -1, 1, handleRecord(RecordOldDFIDName, handle12, []byte("a")),
		handleRecord(RecordNewDFIDName, handle12, []byte("b")), handleRecord(RecordFID, handle12, nil)))
	f.Add(metadata(FSError, -1, 1, record(RecordError, append(u32(117), u32(3)...)...),
		record(RecordRange, append(u32(0), native64(4096, 8192)...)...), record(RecordMnt, native64(7)...)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for rest := data; len(rest) > 0; {
			n, _ := parseOne(t, rest)
			rest = rest[n:]
		}

		framed := append(bytes.Clone(data), make([]byte, metadataSize)...)
		binary.NativeEndian.PutUint32(framed, uint32(len(framed)))
		var got []string
		for rest := slices.Concat(valid, framed, valid); len(rest) > 0; {
			n, text := parseOne(t, rest)
			rest = rest[n:]
			got = append(got, text)
		}
		if len(got) != 3 || got[0] != "create valid" || got[2] != "create valid" {
			t.Errorf("got %q around %x", got, framed)
		}
	})
}

// parseOne parses one event, compares all that it says with the bytes, and returns its size and names.
func parseOne(t *testing.T, b []byte) (int, string) {
	own := &held{fd: noDescriptor, pidfd: noDescriptor}
	e := Event{held: own}
	n, err := e.parse(b)
	e.held = nil // the descriptors are not ours to close
	if n < 1 || n > len(b) {
		t.Fatalf("size %d of %d bytes", n, len(b))
	}
	want, records, whole := readPlainly(b)
	if own.fd != want.held.fd || own.pidfd != want.held.pidfd {
		t.Fatalf("owns the descriptors %d and %d, want %d and %d: %x", own.fd, own.pidfd, want.held.fd, want.held.pidfd, b)
	}
	if asked := want.Mask&permissionEvents != 0 && own.fd >= 0; asked != (own.request == waiting) {
		t.Fatalf("%s with the descriptor %d: request %d", want.Mask, own.fd, own.request)
	}
	if err != nil {
		if err.Offset < 0 || err.Offset >= n || err.Reason == "" {
			t.Fatalf("offset %d in an event of %d bytes: %s", err.Offset, n, err.Reason)
		}
		return n, ""
	}
	if !whole || e.Mask != want.Mask || e.PID != want.PID {
		t.Fatalf("mask %s, pid %d, want %s, %d, well-formed %v: %x", e.Mask, e.PID, want.Mask, want.PID, whole, b)
	}
	bytesOf := bytes.Clone(b[:metadataLength(b)])
	i := 0
	for r := range e.Records() {
		if i == len(records) || !bytes.Equal(r.Data, records[i]) || r.Type != RecordType(r.Data[0]) {
			t.Fatalf("record %d is %x, want %x", i, r.Data, records)
		}
		bytesOf = append(bytesOf, r.Data...)
		i++
	}
	if !bytes.Equal(bytesOf, b[:n]) {
		t.Fatalf("metadata and records are %x, want %x", bytesOf, b[:n])
	}
	checkRecords(t, &e, records)
	if kept := e.Detach(); kept.Mask != e.Mask || !bytes.Equal(kept.Object(), e.Object()) {
		t.Fatal("the copy differs")
	}
	return n, describeNames(&e)
}

// readPlainly reads the event at the start of b as fanotify(7) describes it: what its metadata says, with the
// descriptors that somebody has to close, and its records, as far as there is a way from one to the next. Whole says
// that nothing is wrong with their bounds.
func readPlainly(b []byte) (want *Event, records [][]byte, whole bool) {
	own := &held{fd: noDescriptor, pidfd: noDescriptor}
	want = &Event{held: own}
	order := binary.NativeEndian
	if len(b) < 24 || order.Uint32(b) < 24 || int64(order.Uint32(b)) > int64(len(b)) || b[4] != 3 {
		return want, nil, false
	}
	b = b[:order.Uint32(b)]
	want.Mask = Mask(order.Uint64(b[8:]))
	own.fd, want.PID = int32(order.Uint32(b[16:])), int32(order.Uint32(b[20:]))
	at := int(order.Uint16(b[6:]))
	if at < 24 || at > len(b) {
		return want, nil, false
	}
	for at < len(b) {
		if len(b)-at < 4 {
			return want, records, false
		}
		n := int(order.Uint16(b[at+2:]))
		if n < 4 || n > len(b)-at {
			return want, records, false
		}
		r := b[at : at+n]
		if RecordType(r[0]) == RecordPIDFD && n >= 8 && own.pidfd == noDescriptor {
			own.pidfd = int32(order.Uint32(r[4:]))
		}
		records = append(records, r)
		at += n
	}
	return want, records, true
}

// checkRecords compares what the event answers with the first record of each type.
func checkRecords(t *testing.T, e *Event, records [][]byte) {
	first := map[RecordType][]byte{}
	for _, r := range records {
		if _, ok := first[RecordType(r[0])]; !ok {
			first[RecordType(r[0])] = r
		}
	}
	// handle returns the handle in a record and what stands behind it.
	handle := func(r []byte) (Handle, []byte) {
		if r == nil {
			return "", nil
		}
		n := binary.NativeEndian.Uint32(r[12:])
		h := NewHandle(FSID(r[4:12]), int32(binary.NativeEndian.Uint32(r[16:])), r[20:20+n])
		return h, r[20+n:]
	}
	dir := first[RecordDFIDName]
	if dir == nil {
		dir = first[RecordDFID]
	}
	for _, place := range []struct {
		get  func() (Entry, bool)
		from []byte
	}{{e.Dir, dir}, {e.Old, first[RecordOldDFIDName]}, {e.New, first[RecordNewDFIDName]}} {
		got, ok := place.get()
		want, rest := handle(place.from)
		name, _, _ := bytes.Cut(rest, []byte{0})
		if ok && RecordType(place.from[0]) == RecordDFID {
			name = nil
		}
		if ok != (place.from != nil) || Handle(got.Dir) != want || !bytes.Equal(got.Name, name) {
			t.Fatalf("place %x %q, want %s %q of %x", got.Dir, got.Name, want, name, place.from)
		}
		if ok && want.String() == "" {
			t.Fatalf("handle %x has no text", want)
		}
	}
	if want, _ := handle(first[RecordFID]); Handle(e.Object()) != want {
		t.Fatalf("object %x, want %s", e.Object(), want)
	}
	id, ok := e.MountID()
	if r := first[RecordMnt]; ok != (r != nil) || ok && id != binary.NativeEndian.Uint64(r[len(r)-8:]) {
		t.Fatalf("mount %x %v of %x", id, ok, r)
	}
	errno, count, ok := e.FSError()
	if r := first[RecordError]; ok != (r != nil) || ok && !bytes.Equal(slices.Concat(u32(uint32(errno)), u32(count)), r[4:12]) {
		t.Fatalf("error %d, %d, %v of %x", errno, count, ok, r)
	}
	offset, size, ok := e.Range()
	if r := first[RecordRange]; ok != (r != nil) || ok && !bytes.Equal(native64(offset, size), r[8:24]) {
		t.Fatalf("range %d, %d, %v of %x", offset, size, ok, r)
	}
}

// FuzzDescriptors gives every descriptor in whatever it gets a real one, and deals with the events in ways that the
// second argument tells: each descriptor is closed once, by who has it, and none before.
func FuzzDescriptors(f *testing.F) {
	two := metadata(Open, 1, 1, pidfdRecord(2))
	f.Add(slices.Concat(two, metadata(Open, 3, 1, record(RecordFID), pidfdRecord(4)), two, two, two), []byte{0, 7, 1, 2, 3})
	f.Add(slices.Concat(two, set(two, 4, 2), set(two, metadataSize+2, 3, 3), two), []byte{7, 3})
	f.Add(metadata(OpenPerm, 1, 1, record(RecordPIDFD, 1), pidfdRecord(2), pidfdRecord(-1)), []byte{4})
	f.Fuzz(func(t *testing.T, data []byte, ways []byte) {
		if len(data) > 1<<10 {
			return // 42 events are enough, and the limit of descriptors is low
		}
		data = bytes.Clone(data)
		var all []int
		for rest := data; len(rest) >= metadataSize; {
			want, records, _ := readPlainly(rest)
			if want.held.fd >= 0 {
				all = append(all, openHigh(t))
				binary.NativeEndian.PutUint32(rest[16:], uint32(all[len(all)-1]))
			}
			for _, r := range records {
				if want.held.pidfd >= 0 && RecordType(r[0]) == RecordPIDFD && len(r) >= 8 {
					all = append(all, openHigh(t))
					binary.NativeEndian.PutUint32(r[4:], uint32(all[len(all)-1]))
					break
				}
			}
			size := binary.NativeEndian.Uint32(rest)
			if size < metadataSize || int64(size) > int64(len(rest)) {
				break
			}
			rest = rest[size:]
		}

		var files []*os.File // taken
		var kept []*Event
		b := batchOf(closedGroup(t), data)
		for e := range b.Events() {
			way := byte(0)
			if len(ways) > 0 {
				way, ways = ways[0], ways[1:]
			}
			if way == 255 {
				break // with the rest in the batch
			}
			if e == nil {
				continue
			}
			if way&4 != 0 {
				e = e.Detach()
				kept = append(kept, e)
			}
			for bit, take := range map[byte]func() (*os.File, error){1: e.File, 2: e.PIDFD} {
				if way&bit == 0 {
					continue
				}
				if file, err := take(); err == nil {
					files = append(files, file)
				}
			}
		}
		b.Close()
		for _, e := range kept {
			e.Close()
			e.Close()
		}
		taken := map[int]bool{}
		for _, file := range files {
			taken[int(file.Fd())] = true
		}
		for _, fd := range all {
			if isOpen(fd) != taken[fd] {
				t.Errorf("descriptor %d is open: %v, taken: %v", fd, isOpen(fd), taken[fd])
			}
		}
		for _, file := range files {
			check(t, file.Close())
		}
		for _, fd := range all {
			if isOpen(fd) {
				t.Errorf("descriptor %d was closed, and then open", fd)
				unix.Close(fd)
			}
		}
	})
}

// closedGroup returns a group that was closed: whoever waits for it has been allowed.
func closedGroup(t *testing.T) *Group {
	t.Helper()
	file, err := os.Open("/dev/null")
	check(t, err)
	conn, err := file.SyscallConn()
	check(t, err, file.Close())
	return &Group{file: file, conn: conn}
}

// openHigh returns a new descriptor whose number is so high that nothing else in the process gets it when it is free.
func openHigh(t *testing.T) int {
	t.Helper()
	low := open(t)
	defer unix.Close(low)
	high, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 300)
	if err != nil {
		t.Fatal(err)
	}
	return high
}

// FuzzResponse wants every answer either refused or encoded in a way that reads back as the same answer.
func FuzzResponse(f *testing.F) {
	f.Add(int32(5), true, uint32(unix.EBUSY), true, true, uint32(42), uint32(TrustYes), uint32(TrustUnknown), uint32(ClassPreContent), true)
	f.Add(int32(0), false, uint32(0), false, false, uint32(0), uint32(0), uint32(0), uint32(ClassContent), false)
	f.Add(int32(1<<31-1), true, uint32(unix.EPERM), true, true, ^uint32(0), ^uint32(0), ^uint32(0), uint32(ClassContent), true)
	f.Fuzz(func(t *testing.T, fd int32, deny bool, errno uint32, audit, rule bool, number, subject, object, class uint32, audited bool) {
		r := Response{Deny: deny, Errno: unix.Errno(errno), Audit: audit}
		if rule {
			r.Rule = &AuditRule{number, Trust(subject), Trust(object)}
		}
		if r.String() == "" {
			t.Error("no text")
		}
		config := Config{Class: Class(class), Audit: audited}
		if err := r.check(&config); err != nil {
			if errno == 0 && (!audit || audited) && (!rule || audit) {
				t.Errorf("%s is refused: %v", r, err)
			}
			return
		}
		prefix := []byte("before")
		b := r.append(bytes.Clone(prefix), fd)
		b, ok := bytes.CutPrefix(b, prefix)
		if !ok {
			t.Fatal("the bytes before it changed")
		}
		size := 8
		if rule {
			size = 24
		}
		if len(b) != size {
			t.Fatalf("%s takes %d bytes: %x", r, len(b), b)
		}
		gotFD, got := readResponse(t, b)
		want := r
		if want.Errno == unix.EPERM {
			want.Errno = 0 // the same, and also for older kernels
		}
		if diff := cmp.Diff(want, got); gotFD != fd || diff != "" {
			t.Errorf("%x is for %d, want %d: %s", b, gotFD, fd, diff)
		}
		if got.Errno != 0 && (!got.Deny || Class(class) != ClassPreContent) || got.Audit && !audited {
			t.Errorf("%s is taken for %v", got, config)
		}
	})
}

// readResponse reads a struct fanotify_response, and the audit rule behind it, with the numbers of linux/fanotify.h.
func readResponse(t *testing.T, b []byte) (fd int32, r Response) {
	order := binary.NativeEndian
	fd = int32(order.Uint32(b))
	answer := order.Uint32(b[4:])
	r = Response{Deny: answer&3 == 2, Errno: unix.Errno(answer >> 24), Audit: answer&0x10 != 0}
	if answer&3 != 1 && answer&3 != 2 || answer&^0xff000033 != 0 {
		t.Fatalf("answer %#x", answer)
	}
	if answer&0x20 == 0 {
		return fd, r
	}
	if b[8] != 1 || b[9] != 0 || order.Uint16(b[10:]) != 16 {
		t.Fatalf("the header of the rule is %x", b[8:12])
	}
	r.Rule = &AuditRule{order.Uint32(b[12:]), Trust(order.Uint32(b[16:])), Trust(order.Uint32(b[20:]))}
	return fd, r
}
