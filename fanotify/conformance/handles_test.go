package conformance_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// handleRow is a mark of TestLTP13HandleValues.
type handleRow struct {
	name   string
	target fanotify.Target
	mask   fanotify.Mask
}

// TestLTP13HandleValues compares the handles in events with those that name_to_handle_at(2) and statfs(2) tell of the
// same objects: two files and a directory.
//
// Proves FAN_EVENT_INFO_TYPE_FID, name_to_handle_at.
func TestLTP13HandleValues(t *testing.T) {
	const opened = fanotify.Open | fanotify.CloseNowrite
	rows := []handleRow{
		0: {"inode", inode, opened},
		1: {"inode_ondir", inode, opened | fanotify.OnDir},
		2: {"mount", mount, opened},
		3: {"mount_ondir", mount, opened | fanotify.OnDir},
		4: {"filesystem", filesystem, opened},
		5: {"filesystem_ondir", filesystem, opened | fanotify.OnDir},
		6: {"delete_self", inode, fanotify.DeleteSelf | fanotify.OnDir},
	}
	variants := []struct {
		name  string
		layer string // of an overlay, where the objects lie; "" is no overlay
		below bool   // watch the layer, not the overlay
	}{
		0: {"plain", "", false},
		1: {"lower_through_overlay", "lower", true},
		2: {"upper_through_overlay", "upper", true},
		3: {"overlay_over_lower", "lower", false},
		4: {"overlay_over_upper", "upper", false},
	}
	noLayers := []string{fstest.FUSE, fstest.Overlay, fstest.OverlayExport} // lack what an overlay's layers need
	kinds := slices.Concat(allFilesystems, []string{fstest.Overlay, fstest.OverlayExport})
	onEach(t, kinds, func(t *testing.T, kind, top string) {
		for _, variant := range variants {
			if variant.layer != "" && slices.Contains(noLayers, kind) {
				continue
			}
			t.Run(variant.name, func(t *testing.T) {
				dir := mkdir(t, top, variant.name)
				layer := filepath.Join(dir, variant.layer)
				check(t, os.MkdirAll(layer, 0o755))
				for _, row := range rows { // before there is an overlay
					d := mkdir(t, layer, row.name)
					file(t, d, "file1")
					file(t, d, "file2")
					mkdir(t, d, "dir")
				}
				used := layer
				if variant.layer != "" {
					used = fstest.OverlayOn(t, dir)
				}
				watched := used
				if variant.below {
					watched = layer
				}
				for _, row := range rows {
					t.Run(row.name, func(t *testing.T) {
						var refused error
						silent := false
						switch {
						case row.mask.Has(fanotify.DeleteSelf): // a lower file stays: what is made is a whiteout above it
							silent = variant.below && variant.layer == "lower"
						case row.target == inode:
						case kind == fstest.FUSE: // its filesystem id is zero
							refused = unix.ENODEV
						case kind == fstest.Overlay, variant.layer != "" && !variant.below: // its handles can't be opened
							refused = unix.EOPNOTSUPP
						default:
							// An overlay has mounts of its own of its layers.
							silent = variant.below && row.target == mount
						}
						row.test(t, filepath.Join(watched, row.name), filepath.Join(used, row.name), refused, silent)
					})
				}
			})
		}
	})
}

// test marks what lies in the directory watched and opens, or removes, the same in used. To mark may be refused, and
// the mark may see nothing.
func (r handleRow) test(t *testing.T, watched, used string, refused error, silent bool) {
	g := newGroup(t, fanotify.Config{Report: fanotify.ReportFID})
	known := objects{}
	var want []string
	names := []string{"file1", "file2", "dir"}
	for _, name := range names {
		path := filepath.Join(watched, name)
		err := g.Mark(r.target, path, r.mask, 0)
		if !errors.Is(err, refused) {
			t.Fatalf("mark: %v, want %v", err, refused)
		}
		known[handleAt(t, path)] = name
		mask := r.mask &^ fanotify.OnDir
		if name == "dir" {
			mask = r.mask
		}
		if !silent && err == nil && (name != "dir" || r.mask.Has(fanotify.OnDir)) {
			want = append(want, mask.String()+" object="+name)
		}
	}
	if r.mask.Has(fanotify.DeleteSelf) {
		for _, name := range names {
			check(t, os.Remove(filepath.Join(used, name)))
		}
	} else {
		var open []*os.File
		for _, name := range names {
			open = append(open, openFile(t, filepath.Join(used, name), os.O_RDONLY))
		}
		for _, f := range open {
			check(t, f.Close()) // its event is merged with that of the opening
		}
	}
	expect(t, "using them", queued(t, g, by(t, os.Getpid(), known.describe)), want...)
}
