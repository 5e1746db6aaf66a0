package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(inOwnNamespace(m.Run)) }

// TestQuick measures nobody and the floor under a little of each workload, so that the code can't rot. What the floor
// counts follows from what load does.
func TestQuick(t *testing.T) {
	runtime.LockOSThread()
	c := config{rounds: 1, checks: 1, files: 2000, trees: 100, opens: 5000, dirs: 100, watchers: "floor"}
	b, err := newBench(t.Context(), c, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()

	// From everything merged that the kernel merges, however late the floor reads, to nothing merged. Of a file there
	// stay its creation, rename, deletion and last attribute change.
	least := map[string]int{"files": 4 * c.files, "paced": 4 * c.files, "trees": 9 * c.trees, "fleeting": 9 * c.trees,
		"opens": 1000}
	most := map[string]int{"files": 6 * c.files, "paced": 6 * c.files, "trees": 27 * c.trees, "fleeting": 27 * c.trees,
		"opens": 2 * c.opens}
	for _, work := range workloads(c) {
		results, err := b.measureWork(t.Context(), work)
		if err != nil {
			t.Fatal(work.name, err)
		}
		var names []string
		for _, r := range results {
			names = append(names, r.watcher.name)
			for _, round := range r.rounds {
				if round.load <= 0 || round.died {
					t.Errorf("%s, %s: the work took %v, watcher died: %t", work.name, r.watcher.name, round.load, round.died)
				}
				if r.watcher.name != nobody && (round.watcher <= 0 || round.peak <= 0) {
					t.Errorf("%s, %s: used %v and %d bytes", work.name, r.watcher.name, round.watcher, round.peak)
				}
			}
			for _, check := range r.checks {
				if check.events < least[work.name] || check.events > most[work.name] || check.overflow != 0 {
					t.Errorf("%s, %s: %d events, %d overflows, want %d to %d and none", work.name, r.watcher.name,
						check.events, check.overflow, least[work.name], most[work.name])
				}
			}
		}
		if diff := cmp.Diff([]string{nobody, "floor", "floor, 1 ms"}, names); diff != "" {
			t.Errorf("%s: watchers (-want +got)\n%s", work.name, diff)
		}
		var table strings.Builder
		writeWork(&table, work, results)
		if got := strings.Count(table.String(), "\n|"); got != 2+len(results) {
			t.Errorf("%s: %d lines in the table:\n%s", work.name, got, table.String())
		}
	}

	for _, work := range loopWorkloads(c) {
		results, err := b.measureWork(t.Context(), work)
		if err != nil {
			t.Fatal(work.name, err)
		}
		var table strings.Builder
		writeLoops(&table, work, results)
		if got := strings.Count(table.String(), "\n|"); got != 2+2 || results[1].rounds[0].died || results[1].rounds[0].wall <= 0 {
			t.Errorf("%s: %+v\n%s", work.name, results[1].rounds, table.String())
		}
	}

	starts, err := b.measureStart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ready := starts[1].rounds[0].ready; ready <= 0 {
		t.Errorf("the floor was ready after %v", ready)
	}
}

func TestTally(t *testing.T) {
	files := workload{mode: "files", n: 12, width: 10}
	trees := workload{mode: "trees", n: 2, width: 2}
	opens := workload{mode: "opens", n: 5, width: 2}
	for name, test := range map[string]struct {
		work workload
		line func(*tally, []byte)
		out  string
		want string
	}{
		"nothing":           {files, fanlightLine, "", "48 of 48"},
		"trees have 9":      {trees, fanlightLine, "", "36 of 36"},
		"opens have a file": {opens, fanlightLine, "", "2 of 2"},
		"json": {files, fanlightLine, `
{"seq":1,"events":["create","modify","close_write"],"path":"/b/d0001/f0000011","path_state":"exact","pid":3}
{"seq":2,"events":["rename"],"path":"/b/d0001/f0000011","new_path":"/b/d0001/r0000011","path_state":"exact"}
{"seq":3,"events":["delete"],"path":"/b/d0001/r0000011","path_state":"exact"}
{"seq":4,"events":["delete"],"path":"/b/d0001/r0000011","path_state":"exact"}`, "44 of 48"},
		"json, a half rename": {files, fanlightLine, `
{"seq":2,"events":["rename"],"path":"/b/d0001/f0000011","path_state":"exact"}`, "47 of 48, 1 wrong paths"},
		"json, created and deleted at once": {trees, fanlightLine, `
{"events":["create","delete","ondir"],"path":"/b/t0000001/a/b","path_state":"exact"}`, "34 of 36"},
		"json, losses": {files, fanlightLine, `
{"seq":1,"events":["overflow"],"scope":"/b"}
{"seq":2,"lost":40,"events":["modify"],"path":"/b/d0001/f0000001","path_state":"exact"}
{"seq":3,"events":["modify"],"path":"/b/d0001/f0000001","path_state":"exact","lost":2}`,
			"48 of 48, 1 overflows told, 42 records told lost"},
		"json, in doubt": {files, fanlightLine, `
{"events":["create"],"path":"/b/d0001/f0000001","path_state":"current"}`, "47 of 48, 1 not exact"},
		"json, wrong paths": {files, fanlightLine, `
{"events":["create"],"path":"/b/d0002/f0000001","path_state":"exact"}
{"events":["create"],"path":"/b/d0002/f0000012","path_state":"exact"}
{"events":["create"],"path":"/b/d0001/r0000001","path_state":"exact"}
{"events":["create"],"path":"/b/f0000001","path_state":"exact"}
{"events":["create"],"path":"d0001/f0000001","path_state":"exact"}
{"events":["create"],"path_state":"unknown"}`, "48 of 48, 6 wrong paths"},
		"json, trees": {trees, fanlightLine, `
{"events":["create","ondir"],"path":"/b/t0000000","path_state":"exact"}
{"events":["create","ondir"],"path":"/b/t0000000/a","path_state":"exact"}
{"events":["create"],"path":"/b/t0000000/a/b/c/d/e/f/g/x","path_state":"exact"}
{"events":["create"],"path":"/b/t0000000/a/b/c/d/e/f/g/x/y","path_state":"exact"}
{"events":["create"],"path":"/b/t0000000/a/c","path_state":"exact"}
{"events":["create"],"path":"/b/t0000002","path_state":"exact"}`, "33 of 36, 3 wrong paths"},
		"json, opens": {opens, fanlightLine, `
{"events":["open","close_nowrite"],"path":"/b/o0001","path_state":"exact"}
{"events":["open"],"path":"/b/o0002","path_state":"exact"}`, "1 of 2, 1 wrong paths"},
		"inotifywait": {trees, inotifyLine, `
CREATE,ISDIR /b/t0000000
DELETE,ISDIR /b/t0000000 (deleted)
CLOSE_WRITE,CLOSE /b/t0000000/a/b/c/d/e/f/g/x
Q_OVERFLOW `, "34 of 36, 1 overflows told"},
		"inotifywait, rename": {files, inotifyLine, `
MOVED_FROM /b/d0001/f0000001
MOVED_TO /b/d0001/r0000001`, "46 of 48"},
		"fatrace": {files, fatraceLine, `
load(12): +   /b/d0001
load(12): CWO /b/d0001/f0000001
load(12): W   /b/d0002/r0000002`, "46 of 48"},
		"floor": {files, floorLine, `
events=12345 bytes=1 reads=1 overflows=0`, "12,345 events"},
	} {
		t.Run(name, func(t *testing.T) {
			tally := newTally(test.work, "/b")
			if err := tally.read(strings.NewReader(strings.TrimPrefix(test.out, "\n")+"\n"), test.line); err != nil {
				t.Fatal(err)
			}
			if got := tally.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	for want, figures := range map[string][]float64{
		"":                 nil,
		"7.00":             {7},
		"1.50 (1.25-1.75)": {2, 1},
		"3.00 (2.00-4.00)": {5, 1, 3, 2, 4},
	} {
		if got := spread(figures); got != want {
			t.Errorf("spread(%v) = %q, want %q", figures, got, want)
		}
	}
}

func TestWriteBetweenMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(path, []byte("# Speed\n"+beginMark+"\nold\n"+endMark+"\nWords.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := writeBetweenMarks(path, "new\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		want := "# Speed\n" + beginMark + "\n\nnew\n\n" + endMark + "\nWords.\n"
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}
