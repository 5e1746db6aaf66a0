package fanotify

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// handleRecord returns an information record with a handle, and a name unless it is nil.
func handleRecord(t RecordType, handle []byte, name []byte) []byte {
	b := []byte{byte(t), 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	b = binary.NativeEndian.AppendUint32(b, uint32(len(handle)))
	b = binary.NativeEndian.AppendUint32(b, 0x81)
	b = append(b, handle...)
	if name != nil {
		b = append(append(b, name...), 0)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// metadata returns an event as the kernel writes it.
func metadata(mask Mask, fd, pid int32, records ...[]byte) []byte {
	size := metadataSize
	for _, r := range records {
		size += len(r)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(size))
	b = append(b, unix.FANOTIFY_METADATA_VERSION, 0)
	b = binary.NativeEndian.AppendUint16(b, metadataSize)
	b = binary.NativeEndian.AppendUint64(b, uint64(mask))
	b = binary.NativeEndian.AppendUint32(b, uint32(fd))
	b = binary.NativeEndian.AppendUint32(b, uint32(pid))
	for _, r := range records {
		b = append(b, r...)
	}
	return b
}

func BenchmarkParse(b *testing.B) {
	handle := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	event := metadata(Create|CloseWrite, -1, 4711, handleRecord(RecordDFIDName, handle, []byte("a-file-name.txt")),
		handleRecord(RecordFID, handle, nil))
	var e Event
	var names int
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.parse(event); err != nil {
			b.Fatal(err)
		}
		entry, _ := e.Dir()
		names += len(entry.Name) + len(e.Object())
	}
}
