package watch

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// mountOps does operations, one a line, in a directory: "tmpfs p" mounts a new one on p, "bind a b", "move a b", "umount p",
// "lazily p" and all that in knows.
func mountOps(t *testing.T, dir, operations string) {
	t.Helper()
	for line := range strings.Lines(operations) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		at := func(i int) string {
			if words[i] == "." {
				return dir
			}
			return dir + "/" + words[i]
		}
		var err error
		switch words[0] {
		case "tmpfs":
			err = unix.Mount("none", at(1), "tmpfs", 0, "")
		case "bind":
			err = unix.Mount(at(1), at(2), "", unix.MS_BIND, "")
		case "move":
			err = unix.Mount(at(1), at(2), "", unix.MS_MOVE, "")
		case "umount":
			err = unix.Unmount(at(1), 0)
		case "lazily":
			err = unix.Unmount(at(1), unix.MNT_DETACH)
		default:
			err = operate(dir, words)
		}
		if err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
	}
}

// mountCase is a history, in steps that are each read as a whole.
type mountCase struct {
	name  string
	roots []string // below the ground; r if there are none
	first string   // before the watch
	steps []mountStep
	last  string // what takes the mounts away again

	unique bool // needs unique ids of mounts
}

type mountStep struct {
	do   string
	want []string
}

var mountCases = []mountCase{
	{
		name: "a new mount", first: "mkdirs r/m",
		steps: []mountStep{
			{"touch r/0\ntmpfs r/m", []string{"close_write|create r/0", "mnt_attach r/m"}},
			{"mkdir r/m/d\ntouch r/m/d/f", []string{"create|ondir r/m/d", "close_write|create r/m/d/f"}},
			{"touch r/m/g\numount r/m\ntouch r/m/under", []string{
				"close_write|create r/m/g", "close_write|create r/m/under", "mnt_detach r/m",
			}},
			{"tmpfs r/m", []string{"mnt_attach r/m"}},
			{"touch r/m/again\numount r/m\ntmpfs r/m", []string{"close_write|create r/m/again", "mnt_detach r/m", "mnt_attach r/m"}},
			{"touch r/m/third", []string{"close_write|create r/m/third"}},
		},
		last: "umount r/m",
	},
	{
		name: "the root is the mount", roots: []string{"m"}, first: "mkdir m\ntmpfs m",
		steps: []mountStep{
			{"touch m/0\numount m", []string{"close_write|create m/0", "mnt_detach m"}},
			{"touch m/under\ntouch beside", []string{"close_write|create m/under"}},
			{"tmpfs m", []string{"mnt_attach m"}},
			{"mkdirs m/a/b\ntouch m/a/b/1", []string{"create|ondir m/a", "create|ondir m/a/b", "close_write|create m/a/b/1"}},
		},
		last: "umount m",
	},
	{
		name: "the root is in the mount", roots: []string{"m/a/r"}, first: "mkdirs m\ntmpfs m\nmkdirs m/a/r",
		steps: []mountStep{
			{"touch m/a/r/0\ntouch m/a/1\numount m", []string{"close_write|create m/a/r/0", "mnt_detach m"}},
			{"touch m/x\nmkdirs m/a/r\ntouch m/a/r/2", []string{"create|ondir m/a/r", "close_write|create m/a/r/2"}},
			{"tmpfs m", []string{"mnt_attach m"}},
			{"mkdirs m/a/r\ntouch m/a/r/3\ntouch m/a/4", []string{"create|ondir m/a/r", "close_write|create m/a/r/3"}},
		},
		last: "umount m",
	},
	{
		name: "moved", first: "mkdirs r/m\nmkdirs r/n\nmkdir out\ntmpfs r/m\nmkdirs r/m/d/e",
		steps: []mountStep{
			{"touch r/m/d/1", []string{"close_write|create r/m/d/1"}},
			// Whether it was before the move nobody knows.
			{"touch r/m/d/e/2\nmove r/m r/n\ntouch r/n/d/e/3", []string{
				"close_write|create r/n/d/e/2 (current)", "close_write|create r/n/d/e/3 (current)",
				"mnt_attach|mnt_detach r/m > r/n",
			}},
			{"touch r/n/d/e/4\nmv r/n/d r/n/f\ntouch r/n/f/e/5", []string{
				"close_write|create r/n/d/e/4", "rename|ondir r/n/d -> r/n/f", "close_write|create r/n/f/e/5",
			}},
			{"touch r/n/f/6\nmove r/n out", []string{"close_write|create r/n/f/6 (current)", "mnt_detach r/n"}},
			{"touch out/f/7\ntouch out/8", nil},
			{"move out r/m", []string{"mnt_attach r/m"}},
			{"touch r/m/f/e/9", []string{"close_write|create r/m/f/e/9"}},
		},
		last: "umount r/m",
	},
	{
		name: "covered", first: "mkdirs r/m\ntmpfs r/m\nmkdirs r/m/d",
		steps: []mountStep{
			{"touch r/m/d/0", []string{"close_write|create r/m/d/0"}},
			{"touch r/m/d/1\ntmpfs r/m", []string{"close_write|create r/m/d/1", "mnt_attach r/m"}},
			{"mkdir r/m/d\ntouch r/m/d/2", []string{"create|ondir r/m/d", "close_write|create r/m/d/2"}},
			{"tmpfs r/m", []string{"mnt_attach r/m"}},
			{"touch r/m/3\numount r/m\ntouch r/m/d/4", []string{"close_write|create r/m/3", "close_write|create r/m/d/4", "mnt_detach r/m"}},
			{"umount r/m\ntouch r/m/d/5", []string{"close_write|create r/m/d/5", "mnt_detach r/m"}},
		},
		last: "umount r/m",
	},
	{
		name: "the root is covered", first: "mkdirs r/d",
		steps: []mountStep{
			{"touch r/d/1\ntmpfs r", []string{"close_write|create r/d/1", "mnt_attach r"}},
			{"mkdir r/d\ntouch r/d/2", []string{"create|ondir r/d", "close_write|create r/d/2"}},
			{"umount r\ntouch r/d/3", []string{"close_write|create r/d/3", "mnt_detach r"}},
		},
	},
	{
		name: "what is above the root is covered", roots: []string{"a/r"}, first: "mkdirs a/r/m",
		steps: []mountStep{
			{"tmpfs a", []string{"mnt_attach a"}},
			{"mkdirs a/r/m\ntouch a/r/1\ntouch a/2", []string{"create|ondir a/r", "create|ondir a/r/m", "close_write|create a/r/1"}},
			{"tmpfs a/r/m", []string{"mnt_attach a/r/m"}},
			{"touch a/r/m/3\numount a/r/m\numount a\ntouch a/r/4", []string{
				"close_write|create a/r/m/3", "close_write|create a/r/4", "mnt_detach a", "mnt_detach a/r/m",
			}},
		},
	},
	{
		name: "bound", first: "mkdirs r/m\nmkdirs s/d/e",
		steps: []mountStep{
			// Whether it was before nobody knows.
			{"touch s/d/0\nbind s r/m", []string{"close_write|create r/m/d/0 (current)", "mnt_attach r/m"}},
			{"touch s/d/1\ntouch r/m/d/e/2\nmv s/d s/f\ntouch s/f/e/3", []string{
				"close_write|create r/m/d/1", "close_write|create r/m/d/e/2", "rename|ondir r/m/d -> r/m/f",
				"close_write|create r/m/f/e/3",
			}},
			{"mkdir r/n\nbind s/f r/n", []string{"create|ondir r/n", "mnt_attach r/n"}},
			{"touch r/n/4", []string{"close_write|create r/m/f/4"}},
			{"umount r/m", []string{"mnt_detach r/m"}},
			{"touch r/n/e/5\ntouch s/f/6\ntouch s/7", []string{"close_write|create r/n/e/5", "close_write|create r/n/6"}},
			{"touch r/n/8\numount r/n\ntouch r/9", []string{
				"close_write|create r/n/8 (current)", "close_write|create r/9", "mnt_detach r/n",
			}},
			{"touch s/f/10\nbind s/f/e r", []string{"mnt_attach r"}},
			{"touch r/11\numount r", []string{"close_write|create r/11 (current)", "mnt_detach r"}},
			{"touch s/f/e/12\ntouch r/13", []string{"close_write|create r/13"}},
		},
	},
	{
		name: "elsewhere too", first: "mkdirs r/m\nmkdir s\ntmpfs s\nmkdirs s/d/e",
		steps: []mountStep{
			{"touch s/0\nbind s r/m\ntouch s/1", []string{"mnt_attach r/m"}},
			{"touch s/d/e/2", []string{"close_write|create r/m/d/e/2"}},
			{"touch s/3\numount r/m", []string{"close_write|create r/m/3 (current)", "mnt_detach r/m"}},
			{"touch s/d/e/4", nil},
			{"bind s/d r/m", []string{"mnt_attach r/m"}},
			{"touch s/d/e/5\ntouch s/6", []string{"close_write|create r/m/e/5"}},
		},
		last: "umount r/m\numount s",
	},
	{
		name: "asked below a renamed directory", first: "mkdirs r/a/m\ntmpfs r/a/m\nmkdirs r/a/m/d",
		steps: []mountStep{
			{"touch r/a/m/d/1\nmv r/a r/b\ntouch r/b/m/d/2", []string{
				"close_write|create r/a/m/d/1", "rename|ondir r/a -> r/b", "close_write|create r/b/m/d/2",
			}},
		},
		last: "umount r/b/m", unique: true,
	},
	{
		name: "a mount below a renamed directory", first: "mkdirs r/a/m\ntmpfs r/a/m\nmkdirs r/a/m/d",
		steps: []mountStep{
			{"touch r/a/m/d/0", []string{"close_write|create r/a/m/d/0"}},
			{"touch r/a/m/d/1\nmv r/a r/b\ntouch r/b/m/d/2", []string{
				"close_write|create r/a/m/d/1", "rename|ondir r/a -> r/b", "close_write|create r/b/m/d/2",
			}},
			{"mkdir r/b/n\ntmpfs r/b/n", []string{"create|ondir r/b/n", "mnt_attach r/b/n"}},
			{"touch r/b/m/3\numount r/b/m", []string{"close_write|create r/b/m/3", "mnt_detach r/b/m"}},
		},
		last: "umount r/b/n",
	},
	{
		name: "a mount below a renamed root", first: "mkdirs r/m\ntmpfs r/m",
		steps: []mountStep{
			{"mv r q\ntouch q/m/1\ntouch q/2", []string{"rename|ondir r -> q", "close_write|create q/m/1", "close_write|create q/2"}},
			{"mkdir q/n\ntmpfs q/n", []string{"create|ondir q/n", "mnt_attach q/n"}},
			{"touch q/n/3\ntouch q/m/4", []string{"close_write|create q/n/3", "close_write|create q/m/4"}},
		},
		last: "umount q/n\numount q/m",
	},
	{
		name: "lazily", first: "mkdirs r/m\ntmpfs r/m",
		steps: []mountStep{
			{"touch r/m/1\nlazily r/m", []string{"close_write|create r/m/1", "mnt_detach r/m"}},
			{"touch r/m/2", []string{"close_write|create r/m/2"}},
		},
	},
	{
		// What can still be told is told: the records of what was removed, say where it was.
		name: "unmounted unread", first: "mkdirs r/m\ntmpfs r/m\nmkdirs r/m/d/e\nmkdirs r/m/f\ntouch r/m/d/0",
		steps: []mountStep{{"touch r/m/1\ntouch r/m/f/2\nmkdir r/m/g\ntouch r/m/g/3\nrmtree r/m/d\numount r/m", []string{
			"close_write|create r/m/1", "close_write|create - (unknown)", "create|ondir r/m/g", "close_write|create r/m/g/3",
			"delete r/m/d/0", "delete|ondir r/m/d/e", "delete|ondir r/m/d", "mnt_detach r/m",
		}}},
	},
	{
		name: "stacked", first: "mkdirs r/m\ntmpfs r/m\ntmpfs r/m\ntmpfs r/m",
		steps: []mountStep{
			{"mkdir r/m/3\numount r/m", []string{"create|ondir r/m/3", "mnt_detach r/m", "mnt_attach r/m"}},
			{"mkdir r/m/2\numount r/m", []string{"create|ondir r/m/2", "mnt_detach r/m", "mnt_attach r/m"}},
			{"mkdir r/m/1", []string{"create|ondir r/m/1"}},
		},
		last: "umount r/m",
	},
	{
		name: "moved into the root with its directory", first: "mkdirs s/d/m\nmkdir r\ntmpfs s/d/m\nmkdirs s/d/m/e",
		steps: []mountStep{
			{"touch s/d/m/0\nmv s/d r/d\ntouch r/d/1", []string{
				"rename|ondir - -> r/d", "close_write|create r/d/1", "mnt_attach r/d/m",
			}},
			{"touch r/d/m/e/2", []string{"close_write|create r/d/m/e/2"}},
			{"mv r/d s/d", []string{"rename|ondir r/d -> -", "mnt_detach s/d/m"}},
			{"touch s/d/m/3", nil},
		},
		last: "umount s/d/m",
	},
	{
		name: "a file as root", roots: []string{"m/f"}, first: "mkdirs m\nwrite m/f\ntmpfs m\nwrite m/f",
		steps: []mountStep{
			{"write m/f\numount m", []string{"modify|close_write m/f", "mnt_detach m"}},
			{"write m/f\ntouch m/g", []string{"modify|close_write m/f"}},
		},
	},
	{
		name: "nothing of interest", first: "mkdirs r\nmkdirs s/m\nmkdirs rr",
		steps: []mountStep{{"tmpfs s/m\ntmpfs rr\ntouch rr/f\numount s/m\numount rr", nil}},
	},
}

// Whatever is mounted, moved and unmounted under the roots is watched with the paths that were asked for.
func TestMounts(t *testing.T) {
	for _, c := range mountCases {
		for name, old := range map[string]bool{"": false, ", as older kernels tell": true} {
			if old && c.unique {
				continue
			}
			t.Run(c.name+name, func(t *testing.T) {
				dir := fstest.New(t, fstest.Tmpfs)
				mountOps(t, dir, c.first)
				roots := c.roots
				if roots == nil {
					roots = []string{"r"}
				}
				config := Config{oldMounts: old}
				for _, r := range roots {
					config.Roots = append(config.Roots, dir+"/"+r)
				}
				w := late(t, dir, config)
				for _, step := range c.steps {
					mountOps(t, dir, step.do)
					got := w.tell(w.step())
					if old { // an id that was used again hides that one went and one came
						got, step.want = withoutMounts(got), withoutMounts(step.want)
					}
					compare(t, step.want, got)
				}
				mountOps(t, dir, c.last)
				w.step()
				if n := len(w.main.tree.systems); n != 1 {
					t.Errorf("%d filesystems are remembered", n)
				}
			})
		}
	}
}

// withoutMounts leaves out what kernels without unique ids of mounts can't tell: which mounts changed, and so which paths
// are sure.
func withoutMounts(lines []string) []string {
	var rest []string
	for _, line := range lines {
		if !strings.HasPrefix(line, "mnt_") {
			rest = append(rest, strings.TrimSuffix(line, " (current)"))
		}
	}
	return rest
}
