package fanotify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// FuzzGroupInfo parses whatever it gets. What it understands it must understand once more in the kernel's own words,
// and beside what a newer kernel adds.
//
// The seeds in testdata hold what the kernel wrote of marks of every kind.
func FuzzGroupInfo(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := parseGroupInfo(text)
		if err != nil {
			if !cmp.Equal(info, GroupInfo{}) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v, %v", info, err)
			}
			return
		}
		written := []byte("pos:\t0\n" + kernelText(info))
		again, err := parseGroupInfo(written)
		if diff := cmp.Diff(info, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("%v\n%s\n%s", err, written, diff)
		}
		added := append(bytes.ReplaceAll(written, []byte(" mask:"), []byte(" new:x mask:")), "fanotify new:1 mask:0\nnew\n"...)
		again, err = parseGroupInfo(added)
		info.OtherMarks++
		if diff := cmp.Diff(info, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("%v\n%s\n%s", err, added, diff)
		}
	})
}

// kernelText writes a group as the kernel does.
func kernelText(info GroupInfo) string {
	var text strings.Builder
	fmt.Fprintf(&text, "fanotify flags:%x event-flags:%x\n", info.Config.initFlags(), info.Config.EventFlags)
	for _, m := range info.Marks {
		text.WriteString("fanotify ")
		device := m.Device.Major<<20 | m.Device.Minor
		switch m.Target {
		case TargetInode:
			fmt.Fprintf(&text, "ino:%x sdev:%x", m.Inode, device)
		case TargetFilesystem:
			fmt.Fprintf(&text, "sdev:%x", device)
		case TargetMount:
			fmt.Fprintf(&text, "mnt_id:%x", m.MountID)
		case TargetMountNamespace:
			fmt.Fprintf(&text, "mnt_ns:%d", m.Namespace)
		}
		fmt.Fprintf(&text, " mflags:%x mask:%x ignored_mask:%x ", uint32(m.Flags), uint64(m.Mask), uint64(m.Ignored))
		fmt.Fprintf(&text, "fhandle-bytes:%x fhandle-type:%x f_handle:%x\n", len(m.Handle), uint32(m.HandleType), m.Handle)
	}
	for range info.OtherMarks {
		text.WriteString("fanotify other:1 mask:0\n")
	}
	return text.String()
}

// FuzzMount parses whatever it gets: no panic, and strings that are in it.
func FuzzMount(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMount(data)
		if err != nil {
			return
		}
		texts := append([]string{m.Type, m.Subtype, m.Source, m.Root, m.Point}, m.SecurityOptions...)
		for _, text := range append(texts, m.Options...) {
			if !bytes.Contains(data[statmountSize:], []byte(text)) {
				t.Errorf("%q", text)
			}
		}
	})
}
