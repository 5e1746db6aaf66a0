package fanotify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// TestUnanswered shows that who is not answered gets what the Config says, in every way in which an event may end, and
// is counted.
func TestUnanswered(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	ways := map[string]func(t *testing.T, g *Group, b *Batch){
		"next step": func(t *testing.T, g *Group, b *Batch) {
			for range b.Events() {
			}
		},
		"break": func(t *testing.T, g *Group, b *Batch) {
			for range b.Events() {
				break
			}
		},
		"panic": func(t *testing.T, g *Group, b *Batch) {
			defer func() {
				if recover() != "in the loop" {
					t.Error("the panic is gone")
				}
			}()
			for range b.Events() {
				panic("in the loop")
			}
		},
		"end of the goroutine": func(t *testing.T, g *Group, b *Batch) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for range b.Events() {
					runtime.Goexit()
				}
			}()
			<-ended
		},
		"File": func(t *testing.T, g *Group, b *Batch) {
			for e := range b.Events() {
				f, err := e.File()
				check(t, err, f.Close())
			}
		},
		"Detach and Close": func(t *testing.T, g *Group, b *Batch) {
			for e := range b.Events() {
				e.Detach().Close()
			}
		},
		"Close":           func(t *testing.T, g *Group, b *Batch) { b.Close() },
		"another read":    func(t *testing.T, g *Group, b *Batch) { _, err := g.TryRead(b); check(t, err) },
		"collected batch": func(t *testing.T, g *Group, b *Batch) {},
		"collected event": func(t *testing.T, g *Group, b *Batch) {
			for e := range b.Events() {
				e.Detach()
			}
		},
	}
	for way, end := range ways {
		for response, want := range map[Response]unix.Errno{
			{}:                              0,
			{Deny: true}:                    unix.EPERM,
			{Deny: true, Errno: unix.EBUSY}: unix.EBUSY,
		} {
			t.Run(way+"/"+response.String(), func(t *testing.T) {
				g, open := asking(t, Config{Class: ClassPreContent, Unanswered: response}, name)
				b := new(Batch)
				ended := asked(t, g, b, open)
				if n := g.Unanswered(); n != 0 {
					t.Errorf("%d unanswered before the end", n)
				}
				end(t, g, b)
				if strings.HasPrefix(way, "collected") {
					b = nil
					runtime.GC()
					defer awaitClosed(t, name)
				}
				if got := errnoOf(ended()); got != want {
					t.Errorf("the open ended with %v, want %v", got, want)
				}
				if n := g.Unanswered(); n != 1 {
					t.Errorf("%d unanswered", n)
				}
				runtime.KeepAlive(b)
			})
		}
	}
}

// awaitClosed waits until this process has no descriptor of the file. What is collected is closed by a goroutine of the
// runtime, after the answer.
func awaitClosed(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		entries, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			to, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
			return to == name
		}) {
			return
		}
	}
	t.Error("a descriptor of", name, "is left open")
}

// TestAnsweredLater detaches an event and lets several goroutines answer it: one does.
func TestAnsweredLater(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	g, open := asking(t, Config{Unanswered: Response{Deny: true}}, name)
	var b Batch
	ended := asked(t, g, &b, open)
	var kept *Event
	for e := range b.Events() {
		kept = e.Detach()
		if err := e.Deny(); err != ErrAnswered || e.FD() != -1 {
			t.Error("the borrowed event can still be answered:", err, e.FD())
		}
	}
	const goroutines = 8
	var group sync.WaitGroup
	errs := make(chan error, 3*goroutines)
	for range goroutines {
		group.Go(func() {
			errs <- kept.Allow()
			var answers Answers
			errs <- answers.Add(kept, Response{})
			check(t, answers.Send())
			kept.Close()
		})
	}
	group.Wait()
	close(errs)
	first := 0
	for err := range errs {
		if err == nil {
			first++
		} else if err != ErrAnswered {
			t.Error(err)
		}
	}
	if first != 1 {
		t.Errorf("%d answers were the first", first)
	}
	check(t, ended())
	if n := g.Unanswered(); n != 0 {
		t.Errorf("%d unanswered", n)
	}
}

// TestFileBeforeTheAnswer reads and closes the file of a request, whose number must not come back with the next one:
// the kernel would give the answer to the older of two requests with one number.
func TestFileBeforeTheAnswer(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	name := file(t, dir, "first")
	g, open := asking(t, Config{}, name)
	second := file(t, dir, "second")
	mark(t, g, TargetInode, second, OpenPerm, 0)
	var b Batch
	firstEnded := asked(t, g, &b, open)
	var events []*Event
	take := func() {
		for e := range b.Events() {
			kept := e.Detach()
			defer runtime.KeepAlive(kept)
			events = append(events, kept)
			f, err := kept.File()
			check(t, err)
			content, err := io.ReadAll(f)
			if string(content) != "content" || int(f.Fd()) == kept.FD() {
				t.Errorf("read %q from %d beside %d", content, f.Fd(), kept.FD())
			}
			check(t, err, f.Close())
			if !isOpen(kept.FD()) {
				t.Error("closing the file closed the descriptor of the request")
			}
		}
	}
	take()
	secondEnded := asked(t, g, &b, func() error {
		f, err := os.Open(second)
		if err == nil {
			err = f.Close()
		}
		return err
	})
	take()
	if len(events) != 2 || events[0].FD() == events[1].FD() {
		t.Fatal("two requests, one number")
	}
	check(t, events[1].Deny(), events[0].Allow())
	if first, second := firstEnded(), errnoOf(secondEnded()); first != nil || second != unix.EPERM {
		t.Errorf("the first open ended with %v, the second with %v", first, second)
	}
	f, err := events[0].File() // answered: it is handed over
	check(t, err)
	if events[0].FD() != -1 {
		t.Error("the event still has it")
	}
	check(t, f.Close())
	events[0].Close()
	events[1].Close()
}

// TestManyAnswers gives answers together that are not all the same, more of them than one call of unix.Writev takes
// without allocating.
func TestManyAnswers(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	const files = 3*writevWithoutAllocation + 1
	g := newGroup(t, Config{Class: ClassPreContent, Audit: true, Unanswered: Response{Deny: true}})
	responses := []Response{{}, {Deny: true}, {Deny: true, Errno: unix.EBUSY}, {Audit: true, Rule: new(AuditRule)}}
	var lock sync.Mutex
	want, got := map[string]unix.Errno{}, map[string]unix.Errno{}
	var names []string
	for i := range files {
		name := file(t, dir, fmt.Sprint(i))
		names = append(names, name)
		want[name] = []unix.Errno{0, unix.EPERM, unix.EBUSY, 0}[i%len(responses)]
	}
	for _, name := range names {
		mark(t, g, TargetInode, name, OpenPerm, 0)
	}
	watchdog := time.AfterFunc(patience, func() { t.Error("not all were answered"); g.Close() })
	defer watchdog.Stop()
	var opens sync.WaitGroup
	for _, name := range names {
		opens.Go(func() {
			f, err := os.Open(name)
			f.Close()
			lock.Lock()
			defer lock.Unlock()
			got[name] = errnoOf(err)
		})
	}
	var b Batch
	var answers Answers
	for n := 0; n < files; {
		check(t, g.Read(withPatience(t), &b))
		for e, err := range b.Events() {
			check(t, err)
			name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", e.FD()))
			check(t, err)
			var i int
			_, err = fmt.Sscan(filepath.Base(name), &i)
			check(t, err, answers.Add(e, responses[i%len(responses)]))
			if err := e.Allow(); err != ErrAnswered || e.FD() != -1 {
				t.Error("the event still has its request:", err, e.FD())
			}
			n++
		}
	}
	lock.Lock()
	if len(got) != 0 {
		t.Error("answered before Send:", got)
	}
	lock.Unlock()
	check(t, answers.Send(), answers.Send())
	opens.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := g.Unanswered(); n != 0 {
		t.Errorf("%d unanswered", n)
	}
}

// TestForgottenAnswers are sent as they were decided when nobody has them any more.
func TestForgottenAnswers(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	g, open := asking(t, Config{}, name)
	var b Batch
	ended := asked(t, g, &b, open)
	func() {
		answers := new(Answers)
		for e := range b.Events() {
			check(t, answers.Add(e, Response{Deny: true}))
		}
	}()
	runtime.GC()
	awaitClosed(t, name)
	if err := ended(); errnoOf(err) != unix.EPERM || g.Unanswered() != 0 {
		t.Errorf("the open ended with %v, %d unanswered", err, g.Unanswered())
	}
}

// TestAnswersOfTwoGroups would need two system calls: Add says so, and the event can still be answered.
func TestAnswersOfTwoGroups(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	first, openFirst := asking(t, Config{}, file(t, dir, "first"))
	second, openSecond := asking(t, Config{}, file(t, dir, "second"))
	var ofFirst, ofSecond Batch
	firstEnded, secondEnded := asked(t, first, &ofFirst, openFirst), asked(t, second, &ofSecond, openSecond)
	var answers Answers
	for e := range ofFirst.Events() {
		check(t, answers.Add(e, Response{Deny: true}))
	}
	for e := range ofSecond.Events() {
		if err := answers.Add(e, Response{}); err != errOtherGroup {
			t.Error(err)
		}
		check(t, answers.Send(), answers.Add(e, Response{}), answers.Send())
	}
	if first, second := errnoOf(firstEnded()), secondEnded(); first != unix.EPERM || second != nil {
		t.Errorf("the first open ended with %v, the second with %v", first, second)
	}
}

// TestAnswersAfterClose shows that nobody is answered by a group that is closed: the kernel has allowed.
func TestAnswersAfterClose(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	for way, respond := range map[string]func(e *Event) error{
		"Respond": func(e *Event) error { return e.Deny() },
		"Answers": func(e *Event) error {
			var answers Answers
			check(t, answers.Add(e, Response{Deny: true}))
			return answers.Send()
		},
		"nobody": func(e *Event) error { return os.ErrClosed },
	} {
		t.Run(way, func(t *testing.T) {
			g, open := asking(t, Config{Unanswered: Response{Deny: true}}, name)
			var b Batch
			ended := asked(t, g, &b, open)
			for e := range b.Events() {
				check(t, g.Close(), ended())
				if err := respond(e); err != os.ErrClosed {
					t.Error(err)
				}
			}
			if n := g.Unanswered(); n != 0 {
				t.Errorf("%d got what the Config says", n)
			}
		})
	}
}

// TestStaleEventAnswersNobody keeps an event beyond the body of its loop, and looks ahead into one that is held.
func TestStaleEventAnswersNobody(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	first, second := file(t, dir, "first"), file(t, dir, "second")
	g, openFirst := asking(t, Config{}, first)
	mark(t, g, TargetInode, second, OpenPerm, 0)
	var ends []func() error
	for _, open := range []func() error{openFirst, func() error {
		f, err := os.Open(second)
		if err == nil {
			err = f.Close()
		}
		return err
	}} {
		ended := make(chan error, 1)
		go func() { ended <- open() }()
		ends = append(ends, func() error { return <-ended })
	}
	watchdog := time.AfterFunc(patience, func() { t.Error("a permission event was not answered"); g.Close() })
	defer watchdog.Stop()
	for backlog := 0; backlog < 2*metadataSize; {
		var err error
		backlog, err = g.Backlog()
		check(t, err)
	}
	var b Batch
	check(t, g.Read(withPatience(t), &b))
	var stale *Event
	for e, err := range b.Events() {
		check(t, err)
		if stale != nil {
			if err := stale.Deny(); err != ErrAnswered {
				t.Error("an event that has ended:", err)
			}
		}
		for ahead := range b.Ahead(e) {
			if err := ahead.Deny(); err != ErrNotAsked {
				t.Error("looked at ahead, into an event:", err)
			}
		}
		stale = e
		check(t, e.Allow())
	}
	check(t, ends[0](), ends[1]())
	if n := g.Unanswered(); n != 0 {
		t.Errorf("%d unanswered", n)
	}
}

// TestAnswersBehindAnError sends answers of which the kernel refuses some, as only an older one does: everybody else
// gets his, and who it was refused for gets the bare answer.
func TestAnswersBehindAnError(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := newGroup(t, Config{Class: ClassContent})
	watchdog := time.AfterFunc(patience, func() { t.Error("a permission event was not answered"); g.Close() })
	defer watchdog.Stop()
	ends := map[int32]chan error{}
	var b Batch
	defer b.Close()
	var fds []int32
	for i := range 3 {
		name := file(t, dir, fmt.Sprint(i))
		mark(t, g, TargetInode, name, OpenPerm, 0)
		ended := make(chan error, 1)
		go func() {
			f, err := os.Open(name)
			f.Close()
			ended <- err
		}()
		check(t, g.Read(withPatience(t), &b))
		for e := range b.Events() {
			kept := e.Detach()
			defer kept.Close()
			fds = append(fds, int32(kept.FD()))
			ends[int32(kept.FD())] = ended
		}
	}
	// The group's class doesn't know an errno: the check before the call is left out here.
	var out answers
	out.add(fds[0], &Response{Deny: true, Errno: unix.EBUSY})
	out.add(1<<20, &Response{})
	out.add(fds[1], &Response{})
	out.add(fds[2], &Response{Deny: true})
	if err := out.send(g); !errors.Is(err, unix.EINVAL) {
		t.Error("the first error is", err)
	}
	for i, want := range []unix.Errno{unix.EPERM, 0, unix.EPERM} {
		if got := errnoOf(<-ends[fds[i]]); got != want {
			t.Errorf("open %d ended with %v, want %v", i, got, want)
		}
	}
	if len(out.each)+len(out.bytes)+len(out.rest) != 0 {
		t.Error("something is left to be sent")
	}
}

// TestAnsweringAllocatesNothing asks and answers, singly and together.
func TestAnsweringAllocatesNothing(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	g := newGroup(t, Config{Class: ClassContent})
	mark(t, g, TargetInode, name, AccessPerm, 0)
	f, err := os.Open(name) // after the mark: since Linux 6.14 who opened it before is not asked
	check(t, err)
	defer f.Close()
	watchdog := time.AfterFunc(patience, func() { t.Error("a permission event was not answered"); g.Close() })
	defer watchdog.Stop()
	ask := make(chan struct{})
	defer close(ask)
	go func() {
		var content [1]byte
		for range ask {
			f.ReadAt(content[:], 0) //nolint:errcheck // It is allowed: the loop below waits for it.
		}
	}()
	var b Batch
	var answers Answers
	ctx := context.Background()
	failed := 0
	for way, respond := range map[string]func(e *Event) error{
		"Respond": func(e *Event) error { return e.Respond(Response{}) },
		"Answers": func(e *Event) error { return errors.Join(answers.Add(e, Response{}), answers.Send()) },
		"nobody":  func(e *Event) error { return nil },
	} {
		allocs := testing.AllocsPerRun(100, func() {
			ask <- struct{}{}
			if g.Read(ctx, &b) != nil {
				failed++
			}
			for e, err := range b.Events() {
				if err != nil || respond(e) != nil {
					failed++
				}
			}
		})
		if allocs > 0 || failed > 0 {
			t.Errorf("%s: %v allocations, %d failed", way, allocs, failed)
		}
	}
}
