package watch

import (
	"fmt"
	"testing"

	"fanlight/internal/fstest"
)

// history is a story of operations in a directory that holds the root r and, not watched, o. Everything is read only
// when it is over: the paths must be as they were all the same.
type history struct {
	name   string
	before string // before the watch: directories that are first met in the queue
	story  string
	want   []string
}

var histories = []history{
	{
		name: "a directory is renamed after its use",
		story: `mkdir r/a
			touch r/a/x
			mv r/a r/b
			touch r/b/y`,
		want: []string{
			"create|ondir r/a", "close_write|create r/a/x", "rename|ondir r/a -> r/b", "close_write|create r/b/y",
		},
	},
	{
		name:   "an old directory is renamed after its use",
		before: "mkdir r/a",
		story: `touch r/a/x
			mv r/a r/b
			touch r/b/y`,
		want: []string{"close_write|create r/a/x", "rename|ondir r/a -> r/b", "close_write|create r/b/y"},
	},
	{
		name:   "renamed again and again",
		before: "mkdirs r/a/deep",
		story: `touch r/a/deep/1
			mv r/a r/b
			touch r/b/deep/2
			mv r/b r/c
			touch r/c/deep/3`,
		want: []string{
			"close_write|create r/a/deep/1", "rename|ondir r/a -> r/b", "close_write|create r/b/deep/2",
			"rename|ondir r/b -> r/c", "close_write|create r/c/deep/3 (current)",
		},
	},
	{
		name:   "parent and child are renamed",
		before: "mkdirs r/p/c",
		story: `touch r/p/c/1
			mv r/p/c r/p/d
			mv r/p r/q
			touch r/q/d/2`,
		want: []string{
			"close_write|create r/p/c/1", "rename|ondir r/p/c -> r/p/d", "rename|ondir r/p -> r/q",
			"close_write|create r/q/d/2",
		},
	},
	{
		name:   "an old tree is removed",
		before: "mkdirs r/t/u/v/w\nwrite r/t/u/v/w/f\nwrite r/t/u/g",
		story:  "rm r/t/u/v/w/f\nrmdir r/t/u/v/w\nrmdir r/t/u/v\nrm r/t/u/g\nrmdir r/t/u\nrmdir r/t",
		want: []string{
			"delete r/t/u/v/w/f", "delete|ondir r/t/u/v/w", "delete|ondir r/t/u/v", "delete r/t/u/g",
			"delete|ondir r/t/u", "delete|ondir r/t",
		},
	},
	{
		name:   "an old tree is renamed and removed",
		before: "mkdirs r/t/u\nwrite r/t/u/f",
		story:  "chmod r/t/u/f\nmv r/t r/s\nrm r/s/u/f\nmv r/s/u r/x\nrmdir r/x\nrmdir r/s",
		want: []string{
			"attrib|delete r/t/u/f", "rename|ondir r/t -> r/s", "rename|ondir r/s/u -> r/x",
			"delete|ondir r/x", "delete|ondir r/s",
		},
	},
	{
		name:   "between two directories never seen",
		before: "mkdirs r/p/d\nmkdir r/q",
		story:  "mv r/p/d r/q/d\ntouch r/q/d/f",
		want:   []string{"rename|ondir r/p/d -> r/q/d", "close_write|create r/q/d/f"},
	},
	{
		name:   "out of the root and back",
		before: "mkdirs r/d\nmkdir o",
		story: `touch r/d/1
			mv r/d o/d
			touch o/d/2
			mv o/d r/e
			touch r/e/3`,
		want: []string{
			"close_write|create r/d/1", "rename|ondir r/d -> -", "rename|ondir - -> r/e",
			"close_write|create r/e/3 (current)",
		},
	},
	{
		name:   "files over the border of the root",
		before: "mkdir o\nwrite o/f\nwrite r/g",
		story:  "mv o/f r/f\nmv r/g o/g\nmv o/g o/h",
		want:   []string{"rename - -> r/f", "rename r/g -> -"},
	},
	{
		name:   "nothing from outside",
		before: "mkdirs o/r/r\nwrite o/f",
		story:  "touch o/g\nmkdir o/r/d\ntouch o/r/r/h\nmkdir r2\ntouch r2/f\nln o/f r2/g\nrmtree o",
	},
	{
		name:   "a link into the root",
		before: "mkdir o\nwrite o/f",
		story:  "ln o/f r/g\nchmod o/f\nchmod r/g",
		want:   []string{"attrib|create r/g"},
	},
	{
		name:   "the root is renamed",
		before: "mkdirs r/d",
		story:  "touch r/d/1\nmv r s\ntouch s/d/2\ntouch s/3",
		want: []string{
			"close_write|create r/d/1", "rename|ondir r -> s", "close_write|create s/d/2", "close_write|create s/3",
		},
	},
	{
		name:  "the root is removed and made again",
		story: "touch r/1\nrm r/1\nrmdir r\nmkdir r\ntouch r/2\nmkdir r/d\ntouch r/d/3",
		want: []string{
			"close_write|create|delete r/1", "delete|ondir r", "create|ondir r", "close_write|create r/2",
			"create|ondir r/d", "close_write|create r/d/3",
		},
	},
	{
		name:   "another directory takes the root's name",
		before: "mkdirs o/d",
		story:  "mv r s\nmv o r\ntouch r/d/f\ntouch s/g",
		want: []string{
			"rename|ondir r -> s", "rename|ondir - -> r", "close_write|create r/d/f", "close_write|create s/g",
		},
	},
	{
		name:  "made, used and removed",
		story: "mkdir r/d\ntouch r/d/f\nrm r/d/f\nrmdir r/d",
		want:  []string{"create|delete|ondir r/d", "close_write|create|delete r/d/f"},
	},
	{
		name:  "one name for three directories",
		story: "mkdir r/d\ntouch r/d/1\nmv r/d r/e\nmkdir r/d\ntouch r/d/2\nmv r/d r/f\nmkdir r/d\ntouch r/d/3\ntouch r/e/4\ntouch r/f/5",
		want: []string{
			"create|ondir r/d", "close_write|create r/d/1", "rename|ondir r/d -> r/e",
			"create|ondir r/d", "close_write|create r/d/2", "rename|ondir r/d -> r/f",
			"create|ondir r/d", "close_write|create r/d/3", "close_write|create r/e/4", "close_write|create r/f/5",
		},
	},
	{
		name:   "two directories are exchanged",
		before: "mkdirs r/a/x\nmkdirs r/b/y",
		story:  "touch r/a/x/1\nexchange r/a r/b\ntouch r/b/x/2\ntouch r/a/y/3",
		want: []string{
			"close_write|create r/a/x/1", "rename|ondir r/a -> r/b", "rename|ondir r/b -> r/a",
			"close_write|create r/b/x/2", "close_write|create r/a/y/3",
		},
	},
	{
		name:   "a directory and a file are exchanged",
		before: "mkdirs r/a/x\nwrite r/f",
		story:  "exchange r/a r/f\ntouch r/f/x/1\nchmod r/a",
		want: []string{
			"rename|ondir r/a -> r/f", "rename r/f -> r/a", "close_write|create r/f/x/1", "attrib r/a",
		},
	},
	{
		name:   "a directory takes the place of an empty one",
		before: "mkdirs r/a/x\nmkdir r/b",
		story:  "touch r/a/x/1\nmv r/a r/b\ntouch r/b/x/2",
		want: []string{
			"close_write|create r/a/x/1", "rename|ondir r/a -> r/b", "close_write|create r/b/x/2",
		},
	},
	{
		name:  "a tree made at once", // of which a watch of each directory sees the first
		story: "mkdirs r/a/b/c\ntouch r/a/b/c/f",
		want:  []string{"create|ondir r/a", "create|ondir r/a/b", "create|ondir r/a/b/c", "close_write|create r/a/b/c/f"},
	},
	{
		name:   "made in a directory that is removed later",
		before: "mkdirs r/p/q",
		story:  "mkdir r/p/q/n\ntouch r/p/q/n/f\nmv r/p/q o\nrmtree o\nrmdir r/p",
		want: []string{
			"create|delete|ondir r/p/q/n", "close_write|create|delete r/p/q/n/f", "rename|ondir r/p/q -> -",
			"delete|ondir r/p",
		},
	},
}

func TestPathsAsOfTheEvent(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		for _, maxDirs := range []int{0, 4, 1} {
			for i, h := range histories {
				t.Run(fmt.Sprintf("%s, %d directories", h.name, maxDirs), func(t *testing.T) {
					at := ground(t, dir, fmt.Sprintf("%d-%d", maxDirs, i))
					in(t, at, "mkdir r\n"+h.before)
					w := late(t, at, Config{Roots: []string{at + "/r"}, MaxDirs: maxDirs})
					in(t, at, h.story)
					w.expect(h.want...)
				})
			}
		}
	})
}

// Equal renames that wait in the queue are one record, at the place of the first. So a directory that goes there and
// back and there again ends where no record says: what lies in it is in doubt, until the queue was empty.
func TestRenamedThereAndBack(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		for _, maxDirs := range []int{0, 1} {
			for _, before := range []string{"", "mkdir r/a"} {
				at := ground(t, dir, fmt.Sprintf("%d%t", maxDirs, before == ""))
				in(t, at, "mkdirs r/other/x\n"+before)
				w := late(t, at, Config{Roots: []string{at + "/r"}, MaxDirs: maxDirs})
				if before == "" {
					in(t, at, "mkdir r/a")
					compare(t, []string{"create|ondir r/a"}, w.tell(w.step()))
				}
				in(t, at, "touch r/a/0\nmv r/a r/b\ntouch r/other/x/f\nmv r/b r/a\nmv r/a r/b\ntouch r/b/1")
				compare(t, []string{
					"close_write|create r/a/0", "rename|ondir r/a -> r/b", "close_write|create r/other/x/f",
					"rename|ondir r/b -> r/a", "close_write|create r/a/1 (current)",
				}, w.tell(w.step()))
				in(t, at, "touch r/b/2\nmv r/b r/c\ntouch r/c/3")
				w.expect("close_write|create r/b/2", "rename|ondir r/b -> r/c", "close_write|create r/c/3")
			}
		}
	})
}
