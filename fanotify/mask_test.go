package fanotify

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

func TestMaskText(t *testing.T) {
	for _, tt := range []struct {
		mask Mask
		text string
	}{
		{0, "0"},
		{Create | CloseWrite | OnDir, "close_write|create|ondir"},
		{Overflow, "overflow"},
		{1<<63 | 0x2000 | Open, "open|0x8000000000002000"},
		{1 << 19, "0x80000"},
		{AllEvents, "access|modify|close_write|close_nowrite|open|open_exec|event_on_child|ondir"},
		{AllPermEvents, "open_perm|access_perm|open_exec_perm"},
		{AllFIDEvents, "attrib|moved_from|moved_to|create|delete|delete_self|move_self|event_on_child|rename|ondir"},
		{^Mask(0), "access|modify|attrib|close_write|close_nowrite|open|moved_from|moved_to|create|delete|delete_self|" +
			"move_self|open_exec|overflow|fs_error|open_perm|access_perm|open_exec_perm|pre_access|mnt_attach|mnt_detach|" +
			"event_on_child|rename|ondir|0xffffffffa4e82000"},
	} {
		if got := tt.mask.String(); got != tt.text {
			t.Errorf("%#x is %s, want %s", uint64(tt.mask), got, tt.text)
		}
		if got, err := ParseMask(tt.text); got != tt.mask || err != nil {
			t.Errorf("%s is %#x, %v", tt.text, uint64(got), err)
		}
		text, err := json.Marshal(tt.mask)
		check(t, err)
		var back Mask
		if err := json.Unmarshal(text, &back); err != nil || back != tt.mask {
			t.Errorf("%s comes back as %s, %v", text, back, err)
		}
	}
	for bit := range 64 {
		if got, err := ParseMask(BitName(bit)); got != 1<<bit || err != nil {
			t.Errorf("bit %d is %s, which is %#x, %v", bit, BitName(bit), uint64(got), err)
		}
	}
}

func TestParseMask(t *testing.T) {
	for text, want := range map[string]Mask{
		"create,delete":                   Create | Delete,
		" FAN_CREATE | fan_Q_overflow\t":  Create | Overflow,
		"q_overflow":                      Overflow,
		"close|move":                      Close | Move,
		"FAN_ALL_EVENTS":                  AllEvents,
		"all_perm_events, ALL_FID_EVENTS": AllPermEvents | AllFIDEvents,
		"0x10000000000|5":                 1<<40 | Access | Attrib,
		"open|open":                       Open,
	} {
		if got, err := ParseMask(text); got != want || err != nil {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for text, word := range map[string]string{
		"":                    "",
		"create|":             "",
		",create":             "",
		"create||delete":      "",
		"create; delete":      "create; delete",
		"creat":               "creat",
		"open|fan_":           "fan_",
		"fan_0x1":             "fan_0x1",
		"-1":                  "-1",
		"0x10000000000000000": "0x10000000000000000",
		"create\nopen":        "create\nopen",
	} {
		got, err := ParseMask(text)
		if want := fmt.Sprintf("unknown event %q", word); got != 0 || err == nil || err.Error() != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
		mask := Create
		if err := mask.UnmarshalText([]byte(text)); err == nil || mask != Create {
			t.Errorf("UnmarshalText of %q: %s, %v", text, mask, err)
		}
	}
}

func FuzzParseMask(f *testing.F) {
	for _, seed := range []string{"create|close_write", "FAN_ALL_EVENTS,0x2000", "", "|", "0", "open|0x8000000000000000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMask(text)
		if err != nil {
			return
		}
		if back, err := ParseMask(m.String()); err != nil || back != m {
			t.Errorf("%q is %s, which is %s, %v", text, m, back, err)
		}
	})
}

func FuzzMaskString(f *testing.F) {
	f.Add(uint64(0))
	f.Add(uint64(AllFIDEvents))
	f.Add(^uint64(0))
	f.Fuzz(func(t *testing.T, bits uint64) {
		if back, err := ParseMask(Mask(bits).String()); err != nil || back != Mask(bits) {
			t.Errorf("%#x is %s, which is %#x, %v", bits, Mask(bits), uint64(back), err)
		}
		var seen Mask
		for word := range strings.SplitSeq(Mask(bits).String(), "|") {
			bit, err := ParseMask(word)
			if !strings.HasPrefix(word, "0") {
				loud, loudErr := ParseMask("FAN_" + strings.ToUpper(word))
				if loud != bit || loudErr != nil {
					t.Errorf("%s is %#x, loudly %#x, %v", word, uint64(bit), uint64(loud), loudErr)
				}
			}
			if err != nil || bit&seen != 0 {
				t.Errorf("%s of %s is %#x, %v", word, Mask(bits), uint64(bit), err)
			}
			seen |= bit
		}
	})
}

func TestMaskTextAllocatesNothing(t *testing.T) {
	b := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { b, _ = (^Mask(0)).AppendText(b[:0]); _ = BitName(8) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHas(t *testing.T) {
	m := Create | Delete
	if !m.Has(Create) || !m.Has(Create|Delete) || !m.Has(0) || m.Has(Create|Open) {
		t.Error("Has means every bit")
	}
}

func TestFlagText(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"class_notif":       ClassNotif,
		"class_content":     ClassContent,
		"class_pre_content": ClassPreContent,
		"class 0xc":         ClassContent | ClassPreContent,
		"report_pidfd|report_tid|report_fid|report_dir_fid|report_name|report_target_fid|report_fd_error|report_mnt": ReportPIDFD |
			ReportTID | ReportDFIDNameTarget | ReportFDError | ReportMnt,
		"inode":          TargetInode,
		"mount":          TargetMount,
		"filesystem":     TargetFilesystem,
		"mntns":          TargetMountNamespace,
		"target 0x1":     Target(1),
		"0":              MarkFlags(0),
		"report_fid|0x1": ReportFID | 1,
		"dont_follow|onlydir|ignored_mask|ignored_surv_modify|evictable|ignore": DontFollow | OnlyDir | IgnoredMask |
			IgnoreSurv | Evictable,
	} {
		if got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// covered says where this package has each constant of the kernel; the groups of bits are pyfanotify's, and bigger.
var covered = map[string]int64{
	"FAN_ACCESS": int64(Access), "FAN_MODIFY": int64(Modify), "FAN_ATTRIB": int64(Attrib),
	"FAN_CLOSE_WRITE": int64(CloseWrite), "FAN_CLOSE_NOWRITE": int64(CloseNowrite), "FAN_CLOSE": int64(Close),
	"FAN_OPEN": int64(Open), "FAN_OPEN_EXEC": int64(OpenExec), "FAN_MOVED_FROM": int64(MovedFrom),
	"FAN_MOVED_TO": int64(MovedTo), "FAN_MOVE": int64(Move), "FAN_CREATE": int64(Create), "FAN_DELETE": int64(Delete),
	"FAN_DELETE_SELF": int64(DeleteSelf), "FAN_MOVE_SELF": int64(MoveSelf), "FAN_RENAME": int64(Rename),
	"FAN_Q_OVERFLOW": int64(Overflow), "FAN_FS_ERROR": int64(FSError), "FAN_OPEN_PERM": int64(OpenPerm),
	"FAN_ACCESS_PERM": int64(AccessPerm), "FAN_OPEN_EXEC_PERM": int64(OpenExecPerm), "FAN_PRE_ACCESS": int64(PreAccess),
	"FAN_MNT_ATTACH": int64(MntAttach), "FAN_MNT_DETACH": int64(MntDetach), "FAN_EVENT_ON_CHILD": int64(EventOnChild),
	"FAN_ONDIR":      int64(OnDir),
	"FAN_ALL_EVENTS": int64(AllEvents &^ (OpenExec | OnDir | EventOnChild)), "FAN_ALL_PERM_EVENTS": int64(AllPermEvents &^ OpenExecPerm),

	"FAN_CLASS_NOTIF": int64(ClassNotif), "FAN_CLASS_CONTENT": int64(ClassContent),
	"FAN_CLASS_PRE_CONTENT": int64(ClassPreContent),
	"FAN_REPORT_PIDFD":      int64(ReportPIDFD), "FAN_REPORT_TID": int64(ReportTID), "FAN_REPORT_FID": int64(ReportFID),
	"FAN_REPORT_DIR_FID": int64(ReportDirFID), "FAN_REPORT_NAME": int64(ReportName),
	"FAN_REPORT_TARGET_FID": int64(ReportTargetFID), "FAN_REPORT_FD_ERROR": int64(ReportFDError),
	"FAN_REPORT_MNT": int64(ReportMnt), "FAN_REPORT_DFID_NAME": int64(ReportDFIDName),
	"FAN_REPORT_DFID_NAME_TARGET": int64(ReportDFIDNameTarget),

	"FAN_MARK_INODE": int64(TargetInode), "FAN_MARK_MOUNT": int64(TargetMount),
	"FAN_MARK_FILESYSTEM": int64(TargetFilesystem), "FAN_MARK_MNTNS": int64(TargetMountNamespace),
	"FAN_MARK_DONT_FOLLOW": int64(DontFollow), "FAN_MARK_ONLYDIR": int64(OnlyDir), "FAN_MARK_IGNORE": int64(Ignore),
	"FAN_MARK_IGNORED_MASK": int64(IgnoredMask), "FAN_MARK_IGNORED_SURV_MODIFY": int64(IgnoredSurvModify),
	"FAN_MARK_IGNORE_SURV": int64(IgnoreSurv), "FAN_MARK_EVICTABLE": int64(Evictable),

	"FAN_EVENT_INFO_TYPE_FID": int64(RecordFID), "FAN_EVENT_INFO_TYPE_DFID_NAME": int64(RecordDFIDName),
	"FAN_EVENT_INFO_TYPE_DFID": int64(RecordDFID), "FAN_EVENT_INFO_TYPE_PIDFD": int64(RecordPIDFD),
	"FAN_EVENT_INFO_TYPE_ERROR": int64(RecordError), "FAN_EVENT_INFO_TYPE_RANGE": int64(RecordRange),
	"FAN_EVENT_INFO_TYPE_MNT": int64(RecordMnt), "FAN_EVENT_INFO_TYPE_OLD_DFID_NAME": int64(RecordOldDFIDName),
	"FAN_EVENT_INFO_TYPE_NEW_DFID_NAME": int64(RecordNewDFIDName),
	"FAN_EVENT_METADATA_LEN":            metadataSize,

	// By what a Config or a call means.
	"FAN_CLOEXEC":         int64(Config{}.initFlags()),
	"FAN_UNLIMITED_QUEUE": int64(Config{UnlimitedQueue: true}.initFlags() - Config{}.initFlags()),
	"FAN_UNLIMITED_MARKS": int64(Config{UnlimitedMarks: true}.initFlags() - Config{}.initFlags()),
	"FAN_ENABLE_AUDIT":    int64(Config{Audit: true}.initFlags() - Config{}.initFlags()),
	"FAN_NONBLOCK":        2,    // by fcntl(2), in Group.join
	"FAN_MARK_ADD":        1,    // Group.Mark
	"FAN_MARK_REMOVE":     2,    // Group.Unmark
	"FAN_MARK_FLUSH":      0x80, // Group.Flush
	"FAN_NOFD":            -1,   // Event.File
	"FAN_NOPIDFD":         -1,   // Event.PIDFD
	"FAN_EPIDFD":          -2,   // Event.PIDFD
	"FAN_ALLOW":           1,    // Event.allow

	// Answers to permission events, whose place is response.go.
	"FAN_DENY": 2, "FAN_AUDIT": 0x10, "FAN_INFO": 0x20, "FAN_ERRNO_BITS": 8, "FAN_ERRNO_MASK": 0xff,
	"FAN_ERRNO_SHIFT": 24, "FAN_RESPONSE_INFO_NONE": 0, "FAN_RESPONSE_INFO_AUDIT_RULE": 1,

	// Deprecated sets that programs should not use (linux/fanotify.h).
	"FAN_ALL_CLASS_BITS": 0xc, "FAN_ALL_INIT_FLAGS": 0x3f, "FAN_ALL_MARK_FLAGS": 0xff,
	"FAN_ALL_OUTGOING_EVENTS": 0x3403b,
}

// TestEveryConstantIsCovered compares with golang.org/x/sys/unix: it fails when that has a constant that nobody here
// has thought about.
func TestEveryConstantIsCovered(t *testing.T) {
	pkg, err := build.Import("golang.org/x/sys/unix", ".", build.FindOnly)
	check(t, err)
	// The kernel's values are the same on all architectures.
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, "zerrors_linux.go"), nil, 0)
	check(t, err)
	seen := map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "FAN_") {
			return true
		}
		name := spec.Names[0].Name
		seen[name] = true
		value, ok := intValue(spec.Values[0])
		if got, known := covered[name]; !known {
			t.Errorf("%s (%#x) is not covered", name, value)
		} else if !ok || got != value {
			t.Errorf("%s is %#x, here %#x", name, value, got)
		}
		return true
	})
	for name := range covered {
		if !seen[name] {
			t.Errorf("x/sys has no %s", name)
		}
	}
}

// intValue returns the value of a number with or without a sign.
func intValue(e ast.Expr) (int64, bool) {
	sign := int64(1)
	if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.SUB {
		sign, e = -1, u.X
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return 0, false
	}
	n, ok := constant.Int64Val(constant.MakeFromLiteral(lit.Value, lit.Kind, 0))
	return sign * n, ok
}
