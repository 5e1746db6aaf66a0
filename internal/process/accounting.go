package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kernel's task accounting sends a record when a process ends, ahead of the connector's message of that: what the
// process was called, whose it was, and since Linux 5.19 the device and inode of its program (kernel/taskstats.c). It
// is the only source that knows a process whose end was faster than everybody who asks.

// ending is what a process was when it ended.
type ending struct {
	pid      int32
	ppid     int32
	comm     string
	uid, gid uint32
	program  fileID // zero when the kernel doesn't say
}

// fileID tells files apart: the device number of the filesystem as mountinfo has it, and the inode.
type fileID struct{ dev, ino uint64 }

// same reports whether what stat(2) said of a file is the file of an accounting record. A filesystem may show devices
// that are not its own: btrfs, a number for each subvolume.
func (f fileID) same(other fileID) bool {
	return f.ino == other.ino && (f.dev == other.dev || unix.Major(f.dev) == 0)
}

// offsets in struct taskstats, which only grows at its end.
var (
	accountPPID  = taskstatsOffset("Ac_ppid")
	accountComm  = taskstatsOffset("Ac_comm")
	accountUID   = taskstatsOffset("Ac_uid")
	accountGID   = taskstatsOffset("Ac_gid")
	accountPID   = taskstatsOffset("Ac_pid")
	accountTGID  = taskstatsOffset("Ac_tgid")
	accountDev   = taskstatsOffset("Ac_exe_dev")
	accountInode = taskstatsOffset("Ac_exe_inode")
)

func taskstatsOffset(field string) int {
	f, ok := reflect.TypeFor[unix.Taskstats]().FieldByName(field)
	if !ok {
		panic("struct taskstats has no " + field)
	}
	return int(f.Offset)
}

const (
	genericHeader = 4  // struct genlmsghdr
	maxCommLength = 32 // TS_COMM_LEN

	// accountingMessage is more than any message of the accounting is long, in bytes.
	accountingMessage = 4096
)

// parseEnding parses what one read of the accounting's socket gave. It reports false for anything but the record of a
// process's first thread, whose name is the process's.
func parseEnding(b []byte) (e ending, ok bool) {
	if len(b) < netlinkHeader+genericHeader {
		return e, false
	}
	order := binary.NativeEndian
	stats := attribute(attribute(b[netlinkHeader+genericHeader:], unix.TASKSTATS_TYPE_AGGR_PID), unix.TASKSTATS_TYPE_STATS)
	if len(stats) < accountPPID+4 {
		return e, false
	}
	e.pid = int32(order.Uint32(stats[accountPID:]))
	e.ppid = int32(order.Uint32(stats[accountPPID:]))
	e.comm = string(untilNUL(stats[accountComm : accountComm+maxCommLength]))
	e.uid, e.gid = order.Uint32(stats[accountUID:]), order.Uint32(stats[accountGID:])
	if len(stats) >= accountInode+8 {
		if int32(order.Uint32(stats[accountTGID:])) != e.pid {
			return e, false
		}
		e.program = fileID{order.Uint64(stats[accountDev:]), order.Uint64(stats[accountInode:])}
	}
	return e, true
}

// attribute returns the content of the first netlink attribute of a type, nil without one.
func attribute(b []byte, kind uint16) []byte {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[4:n]
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}

// openAccounting subscribes to the ends of all processes.
func openAccounting(bufferSize int) (int, error) {
	fd, err := openNetlink(unix.NETLINK_GENERIC, bufferSize)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == nil {
			err = registerAccounting(fd)
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("task accounting: %w", explain(err))
	}
	return fd, nil
}

func registerAccounting(fd int) error {
	answer, err := genericRequest(fd, unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, unix.CTRL_ATTR_FAMILY_NAME, unix.TASKSTATS_GENL_NAME)
	if err != nil {
		return err
	}
	id := attribute(answer, unix.CTRL_ATTR_FAMILY_ID)
	if len(id) < 2 {
		return errors.New("the kernel doesn't say where")
	}
	cpus := "0"
	if possible := readSmall("/sys/devices/system/cpu/possible"); possible != "" {
		cpus = possible
	} else if n := runtime.NumCPU(); n > 1 {
		cpus = "0-" + strconv.Itoa(n-1)
	}
	_, err = genericRequest(fd, binary.NativeEndian.Uint16(id), unix.TASKSTATS_CMD_GET, unix.TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus)
	return err
}

// genericRequest sends a request with one text to a family of generic netlink, and returns the attributes of the
// answer. The kernel answers before the request returns.
func genericRequest(fd int, family uint16, command uint8, kind uint16, text string) ([]byte, error) {
	order := binary.NativeEndian
	payload := []byte{command, 1, 0, 0}
	payload = order.AppendUint16(payload, uint16(4+len(text)+1))
	payload = order.AppendUint16(payload, kind)
	payload = append(payload, text...)
	payload = append(payload, 0)
	for len(payload)%4 != 0 {
		payload = append(payload, 0)
	}
	request := netlinkMessage(family, payload)
	order.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var answer []byte
	buf := make([]byte, accountingMessage)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				if errno := -int32(order.Uint32(m.Data)); errno != 0 {
					return nil, unix.Errno(errno)
				}
				return answer, nil
			case m.Header.Type == unix.GENL_ID_CTRL && len(m.Data) >= genericHeader:
				answer = slices.Clone(m.Data[genericHeader:])
			}
		}
	}
}
