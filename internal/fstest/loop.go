package fstest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// imageSize is the size of an image, in bytes: enough for every mkfs (xfs asks for 300 MB) and for some 100,000 files.
// Only what is written takes memory.
const imageSize = 1 << 30

// makers are the commands that write a filesystem to the device whose name is added. They discard nothing first: the
// images are new.
var makers = map[string][]string{
	Ext2:  {"mkfs.ext2", "-q", "-F", "-i", "8192", "-E", "nodiscard"},
	Ext3:  {"mkfs.ext3", "-q", "-F", "-i", "8192", "-E", "nodiscard"},
	Ext4:  {"mkfs.ext4", "-q", "-F", "-i", "8192", "-E", "nodiscard"},
	XFS:   {"mkfs.xfs", "-q", "-f", "-K"},
	Btrfs: {"mkfs.btrfs", "-q", "-f", "-K"},
}

// newDevice makes a block device with a new filesystem of a kind. The caller closes it after mounting.
func newDevice(kind string) (*os.File, error) {
	device, err := newLoop()
	if err != nil {
		return nil, err
	}
	maker := slices.Concat(makers[kind], []string{device.Name()})
	if err := run(maker[0], maker[1:]...); err != nil {
		device.Close()
		return nil, err
	}
	return device, nil
}

// newLoop makes a block device of a new, empty image in memory. The kernel takes the device away, and the memory back,
// when it is neither open nor mounted any more: the caller closes it after mounting.
func newLoop() (*os.File, error) {
	// mkfs.btrfs takes two images of one name for one image.
	name := "fanlight-" + rand.Text()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an image in memory: %w", err)
	}
	image := os.NewFile(uintptr(fd), name)
	defer image.Close()
	if err := image.Truncate(imageSize); err != nil {
		return nil, err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()

	// Somebody else may take the free device before us: then there is another one. Who else makes loop devices at the
	// same time are the other packages' tests, so that a few attempts are enough.
	config := unix.LoopConfig{Fd: uint32(fd), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	for range 64 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("configure %s: %w", device.Name(), err)
		}
	}
	return nil, errors.New("every free loop device was taken by somebody else")
}

// run runs a command; its error holds what the command said.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w (make test installs it)", err)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
