package fanotify

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

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
