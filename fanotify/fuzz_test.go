package fanotify

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzParse parses whatever it gets: no panic, an offset that lies in the event, every record where it belongs. Then
// it puts the same bytes between two valid events, with a length that is right: both must come.
//
// The seeds in testdata hold what the kernel wrote: every kind of record, and a queue that overflowed.
func FuzzParse(f *testing.F) {
	valid := metadata(Create, -1, 1, handleRecord(RecordDFIDName, handle12, []byte("valid")))
	f.Add(valid)
	f.Add(metadata(Rename, -1, 1, handleRecord(RecordOldDFIDName, handle12, []byte("a")),
		handleRecord(RecordNewDFIDName, handle12, []byte("b")), handleRecord(RecordFID, handle12, nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Event
		for rest := data; len(rest) > 0; {
			rest = rest[parseOne(t, &e, rest):]
		}

		framed := append(bytes.Clone(data), make([]byte, metadataSize)...)
		binary.NativeEndian.PutUint32(framed, uint32(len(framed)))
		middle := bytes.Clone(framed)
		rest := append(append(bytes.Clone(valid), middle...), valid...)
		var got []string
		for len(rest) > 0 {
			rest = rest[parseOne(t, &e, rest):]
			got = append(got, describeNames(&e))
		}
		if len(got) != 3 || got[0] != "create valid" || got[2] != "create valid" {
			t.Errorf("got %q around %x", got, framed)
		}
	})
}

// parseOne parses one event, asks it for everything and returns its size.
func parseOne(t *testing.T, e *Event, b []byte) int {
	n, err := e.parse(b)
	if n < 1 || n > len(b) {
		t.Fatalf("size %d of %d bytes", n, len(b))
	}
	if err != nil && (err.Offset < 0 || err.Offset >= n || err.Reason == "") {
		t.Fatalf("offset %d in an event of %d bytes: %s", err.Offset, n, err.Reason)
	}
	if err != nil {
		*e = Event{} // what Batch.Events does not yield
		return n
	}
	for _, place := range []func() (Entry, bool){e.Dir, e.Old, e.New} {
		if entry, ok := place(); ok {
			checkHandle(t, entry.Dir)
			if bytes.IndexByte(entry.Name, 0) >= 0 {
				t.Fatalf("name %q", entry.Name)
			}
		}
	}
	if object := e.Object(); object != nil {
		checkHandle(t, object)
	}
	e.MountID()
	e.FSError()
	e.Range()
	size := int(metadataLength(b))
	for r := range e.Records() {
		size += len(r.Data)
	}
	if size != n {
		t.Fatalf("records end at %d of %d", size, n)
	}
	if kept := e.Detach(); kept.Mask != e.Mask || !bytes.Equal(kept.Object(), e.Object()) {
		t.Fatal("the copy differs")
	}
	return n
}

// checkHandle wants a handle whose parts make it up again.
func checkHandle(t *testing.T, b HandleBytes) {
	h := Handle(b)
	if again := NewHandle(h.FSID(), h.Type(), h.Bytes()); again != h || h.String() == "" {
		t.Fatalf("handle %x is %x", b, again)
	}
}
