package fanotify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// newDirectory returns a directory to try things in.
func newDirectory() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

// Watch a directory, without any privilege: each event comes with the directory's handle and a name in it.
func Example() {
	dir, remove := newDirectory()
	defer remove()
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDName})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	mask := fanotify.Create | fanotify.CloseWrite | fanotify.Rename | fanotify.EventOnChild | fanotify.OnDir
	if err := group.Mark(fanotify.TargetInode, dir, mask, 0); err != nil {
		log.Fatal(err)
	}

	if err := os.Mkdir(filepath.Join(dir, "letters"), 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "letters"), filepath.Join(dir, "mail")); err != nil {
		log.Fatal(err)
	}

	for e, err := range group.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		if e.Mask.Has(fanotify.Overflow) {
			fmt.Println("events were lost")
		}
		if entry, ok := e.Dir(); ok {
			fmt.Printf("%s %s\n", e.Mask, entry.Name)
		}
		if from, ok := e.Old(); ok {
			to, _ := e.New()
			fmt.Printf("%s %s to %s\n", e.Mask, from.Name, to.Name)
			break
		}
	}
	// Output:
	// create|ondir letters
	// rename|ondir letters to mail
}

// Tell the path of what changed: open the directory's handle, and see where it is. That is where it is now; if it was
// renamed since the event, this shows the later name.
func ExampleHandle_Open() {
	dir, remove := newDirectory()
	defer remove()
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDNameTarget})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetInode, dir, fanotify.Create, 0); err != nil {
		log.Fatal(err)
	}
	mount, err := os.Open(dir) // anything on the filesystem
	if err != nil {
		log.Fatal(err)
	}
	defer mount.Close()

	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o644); err != nil {
		log.Fatal(err)
	}

	for e, err := range group.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		entry, _ := e.Dir()
		fd, err := fanotify.Handle(entry.Dir).Open(int(mount.Fd()), unix.O_PATH)
		if errors.Is(err, unix.ESTALE) {
			fmt.Printf("%s in a directory that is gone\n", entry.Name)
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		unix.Close(fd)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(filepath.Join(path, string(entry.Name)) == filepath.Join(dir, "letter"))
		break
	}
	// Output: true
}

// Decide who may open a file. While the loop decides, the process that opens it waits.
func ExampleEvent_Respond() {
	dir, remove := newDirectory()
	defer remove()
	diary := filepath.Join(dir, "diary")
	if err := os.WriteFile(diary, []byte("dear diary\n"), 0o600); err != nil {
		log.Fatal(err)
	}
	group, err := fanotify.NewGroup(fanotify.Config{
		Class:          fanotify.ClassContent,
		Report:         fanotify.ReportFDError,        // or a lease on the file could hold the loop up
		UnlimitedQueue: true,                          // a full queue would let everybody pass
		Unanswered:     fanotify.Response{Deny: true}, // so would a loop that fails
	})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetInode, diary, fanotify.OpenPerm, 0); err != nil {
		log.Fatal(err)
	}

	opened := make(chan error)
	go func() {
		_, err := os.ReadFile(diary)
		opened <- err
	}()

	for e, err := range group.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		file, err := e.File() // reading from it asks nobody; opening the path would ask this loop
		if err != nil {
			log.Fatal(err)
		}
		content, err := io.ReadAll(file)
		file.Close()
		if err := e.Respond(fanotify.Response{Deny: err != nil || bytes.HasPrefix(content, []byte("dear diary"))}); err != nil {
			log.Fatal(err)
		}
		break
	}
	fmt.Println(errors.Is(<-opened, unix.EPERM))
	// Output: true
}

// Tell who did it. The pidfd stands for this very process, whatever becomes of its number; what /proc says is right if
// the process still runs after it was read.
func ExampleEvent_PIDFD() {
	dir, remove := newDirectory()
	defer remove()
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDName | fanotify.ReportPIDFD})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetInode, dir, fanotify.Create, 0); err != nil {
		log.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o644); err != nil {
		log.Fatal(err)
	}

	for e, err := range group.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		entry, _ := e.Dir()
		process, err := e.PIDFD()
		if errors.Is(err, os.ErrProcessDone) {
			fmt.Printf("%s by a process that has ended\n", entry.Name)
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", e.PID))
		if err == nil {
			err = unix.PidfdSendSignal(int(process.Fd()), 0, nil, 0) // does it still run?
		}
		process.Close()
		if err != nil {
			log.Fatal(err)
		}
		self, _ := os.Executable()
		fmt.Printf("%s by this program: %t\n", entry.Name, program == self)
		break
	}
	// Output: letter by this program: true
}

// Leave out what isn't wanted: an ignore mask is taken off, whichever mark of the group would report it.
func ExampleGroup_Mark() {
	dir, remove := newDirectory()
	defer remove()
	names := []string{"letter", "log"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			log.Fatal(err)
		}
	}
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDName})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	err = group.Mark(fanotify.TargetInode, dir, fanotify.Modify|fanotify.EventOnChild, 0)
	if err == nil {
		err = group.Mark(fanotify.TargetInode, filepath.Join(dir, "log"), fanotify.Modify, fanotify.IgnoreSurv)
	}
	if err != nil {
		log.Fatal(err)
	}

	for _, name := range []string{"log", "letter"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("words"), 0o644); err != nil {
			log.Fatal(err)
		}
	}

	for e, err := range group.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		entry, _ := e.Dir()
		fmt.Printf("%s %s\n", e.Mask, entry.Name)
		break
	}
	// Output: modify letter
}

// Read many events at once, into memory that is used again, and let them gather for a moment before.
func ExampleGroup_TryRead() {
	dir, remove := newDirectory()
	defer remove()
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDNameTarget})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetInode, dir, fanotify.Create|fanotify.Delete, 0); err != nil {
		log.Fatal(err)
	}

	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			log.Fatal(err)
		}
	}

	var batch fanotify.Batch
	defer batch.Close()
	files := map[fanotify.Handle]bool{}
	for len(files) < 1000 {
		if err := group.Wait(context.Background()); err != nil {
			log.Fatal(err)
		}
		if _, err := group.TryRead(&batch); err != nil {
			log.Fatal(err)
		}
		for e, err := range batch.Events() {
			if err != nil {
				log.Fatal(err)
			}
			files[fanotify.Handle(e.Object())] = true
		}
	}
	fmt.Println(len(files))
	// Output: 1000
}

// Ask the kernel what it can do before relying on it.
func ExampleSupports() {
	switch err := fanotify.Supports(fanotify.FeatureRename); {
	case err == nil:
		fmt.Println("renames come with both names")
	case errors.Is(err, errors.ErrUnsupported):
		fmt.Println("renames come in two halves")
	default:
		fmt.Println("can't tell:", err)
	}
}

// Masks are read and written as text, and take the kernel's names too.
func ExampleParseMask() {
	mask, err := fanotify.ParseMask("FAN_CREATE, close_write | move")
	fmt.Println(mask, err)
	_, err = fanotify.ParseMask("create,writes")
	fmt.Println(err)
	// Output:
	// close_write|moved_from|moved_to|create <nil>
	// unknown event "writes"
}
