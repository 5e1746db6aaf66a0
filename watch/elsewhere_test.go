package watch

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// namespace is a shell in a mount namespace of its own.
type namespace struct {
	t     *testing.T
	shell *exec.Cmd
	to    io.WriteCloser
	from  *bufio.Reader
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t, shell: exec.Command("unshare", "-m", "sh", "-e")}
	var err error
	n.to, err = n.shell.StdinPipe()
	must(t, err)
	out, err := n.shell.StdoutPipe()
	must(t, err)
	n.from = bufio.NewReader(out)
	must(t, n.shell.Start())
	t.Cleanup(n.end)
	n.do(":")
	return n
}

// do runs a line in the shell.
func (n *namespace) do(line string) {
	n.t.Helper()
	_, err := fmt.Fprintln(n.to, line+"; echo done")
	must(n.t, err)
	if answer, err := n.from.ReadString('\n'); err != nil || answer != "done\n" {
		n.t.Fatalf("%s: %q, %v", line, answer, err)
	}
}

// end ends the shell, and the namespace with it.
func (n *namespace) end() {
	if n.shell.ProcessState == nil {
		n.to.Close()
		if err := n.shell.Wait(); err != nil {
			n.t.Error(err)
		}
	}
}

// tellIn is tell with a mark at what is in another mount namespace.
func tellIn(base string, events []event.Event) []string {
	lines := tell(base, events)
	for i, e := range events {
		if e.Namespace != 0 {
			lines[i] += " elsewhere"
		}
	}
	return lines
}

// Filesystems that are mounted only in other mount namespaces are watched when that is asked for, also those that come
// later, with the paths that they have there.
func TestAllNamespaces(t *testing.T) {
	base := fstest.New(t, fstest.Tmpfs)
	in(t, base, "mkdirs r/m\nmkdirs r/n\nmkdir s")
	n := newNamespace(t)
	n.do("mount -t tmpfs none " + base + "/r/m && mkdir -p " + base + "/r/m/a/b")
	n.do("mount -t tmpfs none " + base + "/s")
	config := Config{Roots: []string{base + "/r"}}
	alone := late(t, base, config)
	config.AllNamespaces = true
	w := late(t, base, config)
	w.held.mounts.timer.Stop() // no other looks than those that follow
	if c := w.Coverage(); len(c) != 2 || c[0].Namespace != 0 || c[1].Namespace == 0 || c[1].MountPoint != base+"/r/m" || c[1].Err != nil {
		t.Errorf("%+v", c)
	}

	n.do("> " + base + "/r/m/a/b/f; mv " + base + "/r/m/a " + base + "/r/m/c; > " + base + "/r/m/c/b/g; > " + base + "/s/no")
	in(t, base, "touch r/m/own")
	compare(t, []string{
		"close_write|create r/m/a/b/f elsewhere", "rename|ondir r/m/a -> r/m/c elsewhere",
		"close_write|create r/m/c/b/g elsewhere", "close_write|create r/m/own",
	}, tellIn(base, w.step()))
	compare(t, []string{"close_write|create r/m/own"}, tellIn(base, alone.step()))

	n.do("mount -t tmpfs none " + base + "/r/n")
	compare(t, []string{"mnt_attach r/n elsewhere"}, tellIn(base, w.step()))
	n.do("> " + base + "/r/n/x; umount " + base + "/r/n")
	compare(t, []string{"close_write|create r/n/x elsewhere", "mnt_detach r/n elsewhere"}, tellIn(base, w.step()))

	other := newNamespace(t)
	other.do("mount -t tmpfs none " + base + "/r/n")
	compare(t, nil, tellIn(base, w.step())) // nothing tells of a new namespace
	w.held.mounts.scan.Store(true)
	compare(t, []string{"mnt_attach r/n elsewhere"}, tellIn(base, w.step()))
	other.do("mkdir " + base + "/r/n/y")
	n.end()
	events := w.step()
	compare(t, []string{"create|ondir r/n/y elsewhere", "mnt_detach r/m elsewhere"}, tellIn(base, events))
	for _, e := range events {
		if e.Mask.Has(fanotify.MntDetach) && e.MountID == 0 {
			t.Error("the mount has no id")
		}
	}
	other.end()
	compare(t, []string{"mnt_detach r/n elsewhere"}, tellIn(base, w.step()))
	if c := w.Coverage(); len(c) != 1 || len(w.held.tree.systems) != 1 {
		t.Errorf("%+v, %d filesystems", c, len(w.held.tree.systems))
	}
	compare(t, nil, tellIn(base, alone.step()))
}

// What is mounted here, too, has its path here.
func TestNamespacesOfWhatIsHere(t *testing.T) {
	base := fstest.New(t, fstest.Tmpfs)
	in(t, base, "mkdirs r/m\nmkdirs x")
	other := fstest.New(t, fstest.Tmpfs)
	n := newNamespace(t)
	n.do("mount --bind " + other + " " + base + "/r/m")
	w := late(t, base, Config{Roots: []string{base + "/r"}, AllNamespaces: true})
	n.do("> " + base + "/r/m/f; > " + base + "/r/g")
	compare(t, []string{"close_write|create r/g"}, tellIn(base, w.step()))
	if c := w.Coverage(); len(c) != 1 || !strings.HasSuffix(c[0].MountPoint, base) {
		t.Errorf("%+v", c)
	}
}
