package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// The process connector tells of every fork, exec, change of user or name, and exit, in order and when it happens
// (drivers/connector/cn_proc.c). It speaks to root of the initial user and pid namespaces alone.

// kind is what a message of the connector tells; the values are the kernel's (enum proc_cn_event).
type kind uint32

const (
	kindFork kind = 0x00000001
	kindExec kind = 0x00000002
	kindUID  kind = 0x00000004
	kindGID  kind = 0x00000040
	kindComm kind = 0x00000200
	kindExit kind = 0x80000000
	kindAck  kind = 0 // the answer to a request; anybody's

	wantedKinds = kindFork | kindExec | kindUID | kindGID | kindComm | kindExit
)

// message is one message of the connector.
type message struct {
	kind      kind
	pid, tgid int32 // thread and process; of a fork, the child's
	parent    int32 // of a fork: the process that is the child's parent
	forker    int32 // of a fork: the thread of the parent
	id        uint32
	err       uint32 // of kindAck
	comm      []byte // borrowed
}

// Sizes and offsets of what stands in a message: struct nlmsghdr, struct cn_msg, struct proc_event.
const (
	netlinkHeader = 16
	cnHeader      = 20
	eventHeader   = 16
	connectorMin  = netlinkHeader + cnHeader + eventHeader

	indexProc = 1 // CN_IDX_PROC
	valueProc = 1 // CN_VAL_PROC
)

// parseConnector parses what one read of the connector's socket gave.
func parseConnector(b []byte) (m message, ok bool) {
	order := binary.NativeEndian
	if len(b) < connectorMin+8 {
		return m, false
	}
	if order.Uint32(b[netlinkHeader:]) != indexProc || order.Uint32(b[netlinkHeader+4:]) != valueProc {
		return m, false
	}
	m.kind = kind(order.Uint32(b[netlinkHeader+cnHeader:]))
	b = b[connectorMin:]
	word := func(i int) int32 { return int32(order.Uint32(b[4*i:])) }
	m.pid, m.tgid = word(0), word(1)
	switch m.kind {
	case kindAck:
		m.err = uint32(word(0))
	case kindFork:
		if len(b) < 16 {
			return m, false
		}
		m.forker, m.parent, m.pid, m.tgid = word(0), word(1), word(2), word(3)
	case kindUID, kindGID:
		if len(b) < 12 {
			return m, false
		}
		m.id = uint32(word(2))
	case kindComm:
		if len(b) < 24 {
			return m, false
		}
		m.comm = untilNUL(b[8:24])
	}
	return m, true
}

func untilNUL(b []byte) []byte {
	if i := slices.Index(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// connectorBuffer is how much of the kernel's memory what waits in a socket may take, in bytes: about 20,000 messages.
const connectorBuffer = 16 << 20

// errNamespace is why the connector doesn't answer.
var errNamespace = errors.New("the kernel didn't answer: it tells only the initial user and pid namespaces")

// openConnector subscribes to the connector.
func openConnector(bufferSize int) (int, error) {
	fd, err := openNetlink(unix.NETLINK_CONNECTOR, bufferSize)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: indexProc})
		// Since Linux 6.6, the kernel can leave out what nobody asked for; before, it ignores a request of that length.
		if err == nil {
			err = subscribe(fd, true)
		}
		if errors.Is(err, errNamespace) {
			err = subscribe(fd, false)
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("process connector: %w", explain(err))
	}
	return fd, nil
}

// explain adds to an error of a netlink socket what it means.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: it needs CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%w: the kernel was built without it, or this is not the initial network namespace", err)
	}
	return err
}

func openNetlink(protocol, bufferSize int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, err
	}
	// The system's limit holds where the privilege to exceed it is missing.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize)
	}
	return fd, nil
}

// subscribe asks for messages. The kernel answers before the call returns, or never.
func subscribe(fd int, filtered bool) error {
	const listen = 1 // PROC_CN_MCAST_LISTEN
	order := binary.NativeEndian
	request := order.AppendUint32(nil, listen)
	if filtered {
		request = order.AppendUint32(request, uint32(wantedKinds))
	}
	cn := order.AppendUint32(nil, indexProc)
	cn = order.AppendUint32(cn, valueProc)
	cn = append(cn, make([]byte, 8)...) // seq, ack
	cn = order.AppendUint16(cn, uint16(len(request)))
	cn = order.AppendUint16(cn, 0)
	b := netlinkMessage(unix.NLMSG_DONE, append(cn, request...))
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var buf [connectorMessage]byte
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case err == unix.EAGAIN:
			return errNamespace
		case err == unix.ENOBUFS || err == unix.EINTR:
			continue
		case err != nil:
			return err
		}
		if m, ok := parseConnector(buf[:n]); ok && m.kind == kindAck {
			if m.err != 0 {
				return unix.Errno(m.err)
			}
			return nil
		}
	}
}

// connectorMessage is more than any message of the connector is long, in bytes.
const connectorMessage = 512

// netlinkMessage puts struct nlmsghdr before a request.
func netlinkMessage(kind uint16, payload []byte) []byte {
	order := binary.NativeEndian
	b := order.AppendUint32(nil, uint32(netlinkHeader+len(payload)))
	b = order.AppendUint16(b, kind)
	b = order.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // seq, pid
	return append(b, payload...)
}
