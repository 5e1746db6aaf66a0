package fanotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// answer reads events while act runs, which waits for answers, and returns what describe says of each. If the answers
// don't come, the group is closed, so that nothing can hang.
func answer(t *testing.T, g *Group, act func() error, describe func(e *Event) string) []string {
	t.Helper()
	watchdog := time.AfterFunc(patience, func() {
		t.Error("a permission event was not answered")
		g.Close()
	})
	defer watchdog.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	acted := make(chan error, 1)
	go func() {
		acted <- act()
		cancel()
	}()
	var got []string
	for e, err := range g.Events(ctx) {
		check(t, err)
		got = append(got, describe(e))
	}
	check(t, <-acted)
	return append(got, queued(t, g, describe)...) // what came when it was done
}

// asking returns a group that is asked for every open of the file, and what opens it.
func asking(t *testing.T, config Config, name string) (*Group, func() error) {
	t.Helper()
	fstest.NeedKernel(t, Supports(FeaturePermission))
	config.Class = max(config.Class, ClassContent)
	g := newGroup(t, config)
	mark(t, g, TargetInode, name, OpenPerm, 0)
	return g, func() error {
		f, err := os.Open(name)
		if err == nil {
			err = f.Close()
		}
		return err
	}
}

// asked reads into b what act asks, which runs beside it, and returns how act ends. If it isn't answered in time, the
// group is closed.
func asked(t *testing.T, g *Group, b *Batch, act func() error) (ended func() error) {
	t.Helper()
	watchdog := time.AfterFunc(patience, func() {
		t.Error("a permission event was not answered")
		g.Close()
	})
	t.Cleanup(func() { watchdog.Stop() })
	acted := make(chan error, 1)
	go func() { acted <- act() }()
	check(t, g.Read(withPatience(t), b))
	return func() error { return <-acted }
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}

// TestResponses gives every answer that a group of each class may give.
//
// Proves FAN_DENY, FAN_ERRNO_SHIFT, FAN_AUDIT, FAN_INFO, FAN_RESPONSE_INFO_AUDIT_RULE, FAN_ENABLE_AUDIT.
func TestResponses(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	rule := &AuditRule{Number: 42, SubjectTrust: TrustYes, ObjectTrust: TrustNo}
	for _, tt := range []struct {
		response Response
		class    Class
		want     unix.Errno
	}{
		{Response{}, ClassContent, 0},
		{Response{}, ClassPreContent, 0},
		{Response{Deny: true}, ClassContent, unix.EPERM},
		{Response{Deny: true}, ClassPreContent, unix.EPERM},
		{Response{Deny: true, Errno: unix.EPERM}, ClassContent, unix.EPERM},
		{Response{Deny: true, Errno: unix.EPERM}, ClassPreContent, unix.EPERM},
		{Response{Deny: true, Errno: unix.EIO}, ClassPreContent, unix.EIO},
		{Response{Deny: true, Errno: unix.EAGAIN}, ClassPreContent, unix.EAGAIN},
		{Response{Deny: true, Errno: unix.EBUSY}, ClassPreContent, unix.EBUSY},
		{Response{Deny: true, Errno: unix.ETXTBSY}, ClassPreContent, unix.ETXTBSY},
		{Response{Deny: true, Errno: unix.ENOSPC}, ClassPreContent, unix.ENOSPC},
		{Response{Deny: true, Errno: unix.EDQUOT}, ClassPreContent, unix.EDQUOT},
		{Response{Audit: true}, ClassContent, 0},
		{Response{Audit: true, Rule: rule}, ClassContent, 0},
		{Response{Deny: true, Audit: true}, ClassContent, unix.EPERM},
		{Response{Deny: true, Audit: true, Rule: rule}, ClassContent, unix.EPERM},
		{Response{Deny: true, Errno: unix.EBUSY, Audit: true, Rule: rule}, ClassPreContent, unix.EBUSY},
	} {
		t.Run(tt.class.String()+" "+tt.response.String(), func(t *testing.T) {
			fstest.NeedKernel(t, Supports(FeaturePreAccess))
			fstest.NeedKernel(t, Supports(FeatureAudit))
			g, open := asking(t, Config{Class: tt.class, Audit: true}, name)
			var ended unix.Errno
			got := answer(t, g, func() error { ended = errnoOf(open()); return nil }, func(e *Event) string {
				return fmt.Sprint(e.Mask, " ", e.Respond(tt.response), ", ", e.Respond(tt.response))
			})
			if want := []string{"open_perm <nil>, " + ErrAnswered.Error()}; !slices.Equal(got, want) || ended != tt.want {
				t.Errorf("events %q, the open ended with %v, want %v", got, ended, tt.want)
			}
			if n := g.Unanswered(); n != 0 {
				t.Errorf("%d unanswered", n)
			}
		})
	}
}

// TestRefusedResponses are those that the kernel would refuse, or take and ignore: the process still waits, and can be
// answered.
func TestRefusedResponses(t *testing.T) {
	name := file(t, fstest.New(t, fstest.Tmpfs), "f")
	for _, tt := range []struct {
		response Response
		class    Class
		audit    bool
		want     string
	}{
		{Response{Errno: unix.EIO}, ClassPreContent, false, "respond allow with EIO: invalid argument: an errno is for who is denied"},
		{Response{Deny: true, Errno: unix.EIO}, ClassContent, false, "only a group of class_pre_content"},
		{Response{Deny: true, Errno: unix.ENOENT}, ClassPreContent, false, "the kernel denies with EPERM, EIO,"},
		{Response{Deny: true, Errno: 4711}, ClassPreContent, false, "respond deny with errno 4711: "},
		{Response{Audit: true}, ClassContent, false, "made without audit"},
		{Response{Rule: new(AuditRule)}, ClassContent, true, "respond allow rule 0: invalid argument: a rule is for an audit record"},
	} {
		t.Run(tt.response.String(), func(t *testing.T) {
			g, open := asking(t, Config{Class: tt.class, Audit: tt.audit}, name)
			var answers Answers
			answer(t, g, open, func(e *Event) string {
				for _, err := range []error{e.Respond(tt.response), answers.Add(e, tt.response)} {
					var refused *ResponseError
					if !errors.As(err, &refused) || !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("got %v, want %q", err, tt.want)
					}
				}
				check(t, answers.Send(), e.Allow())
				return ""
			})
			_, err := NewGroup(Config{Class: tt.class, Audit: tt.audit, Unanswered: tt.response})
			var refused *InitError
			if !errors.As(err, &refused) || !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "fanotify_init: ") {
				t.Error("as what the unanswered get:", err)
			}
		})
	}
}

// TestNobodyToAnswer are events that are no questions.
func TestNobodyToAnswer(t *testing.T) {
	var zero Event
	if err := zero.Allow(); err != ErrNotAsked || zero.FD() != -1 {
		t.Error("the zero event:", err, zero.FD())
	}
	dir := fstest.New(t, fstest.Tmpfs)
	g := newGroup(t, Config{})
	mark(t, g, TargetInode, dir, Open|EventOnChild, 0)
	file(t, dir, "f")
	var b Batch
	check(t, g.Read(withPatience(t), &b))
	var answers Answers
	for e := range b.Ahead(new(Event)) {
		if err := e.Deny(); err != ErrNotAsked {
			t.Error("looked at ahead:", err)
		}
		if err := answers.Add(e, Response{}); err != ErrNotAsked || e.FD() != -1 {
			t.Error("looked at ahead:", err, e.FD())
		}
	}
	for e := range b.Events() {
		if err := e.Respond(Response{Audit: true}); err != ErrNotAsked {
			t.Error("a notification:", err)
		}
		if err := answers.Add(e, Response{}); err != ErrNotAsked {
			t.Error("a notification:", err)
		}
	}
	check(t, answers.Send())
}
