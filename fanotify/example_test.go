package fanotify_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"fanlight/fanotify"
)

// Watch the directory /srv, without privilege: each event comes with the directory's handle and a name in it.
func Example() {
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDName})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetInode, "/srv", fanotify.Create|fanotify.Delete|fanotify.OnDir, 0); err != nil {
		log.Fatal(err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for e, err := range group.Events(ctx) {
		if err != nil {
			log.Print(err)
			continue
		}
		if e.Mask.Has(fanotify.Overflow) {
			fmt.Println("events were lost")
			continue
		}
		entry, _ := e.Dir()
		fmt.Printf("%s: %q\n", e.Mask, entry.Name)
	}
}

// Read many events at once: what is queued, in one buffer that is used again.
func ExampleGroup_TryRead() {
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDNameTarget, UnlimitedQueue: true})
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetFilesystem, "/", fanotify.CloseWrite, 0); err != nil {
		log.Fatal(err)
	}

	var batch fanotify.Batch
	defer batch.Close()
	written := map[fanotify.Handle]int{}
	for group.Wait(context.Background()) == nil {
		if _, err := group.TryRead(&batch); err != nil {
			log.Fatal(err)
		}
		for e, err := range batch.Events() {
			if err == nil {
				written[fanotify.Handle(e.Object())]++
			}
		}
	}
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
