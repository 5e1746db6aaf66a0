package process

import "testing"

// Of a chain of programs the first was settled before anybody knew it. Its place among the records tells it from the
// second, whether the record of that is read before the second execve is told or after it.
func TestChainSettledUnknown(t *testing.T) {
	first, second := fileID{1, 1}, fileID{1, 2}
	marked := map[uint64]bool{1: true}
	began := func(p fileID, stamp uint64, uid uint32) era {
		return era{program: &program{id: p}, name: new(name), ids: &ids{uid, uid}, exec: true, stamp: stamp}
	}
	chain := func() *task {
		task := &task{eras: []era{unknownEra()}}
		task.opened(record{id: first})
		task.opened(record{id: fileID{1, 3}, loader: true})
		task.begin(began(fileID{}, 1, 0))
		return task
	}
	uids := func(eras []era) (uids []uint32) {
		for _, e := range eras {
			uids = append(uids, e.uid)
		}
		return uids
	}

	early := chain()
	early.opened(record{id: second})
	early.settle(1)
	early.begin(began(second, 2, 1000))
	if got := uids(early.candidates(marked, false)); len(got) != 1 || got[0] != 1000 {
		t.Error("behind the record of the second program:", got)
	}

	late := chain()
	late.settle(1)
	late.begin(began(second, 2, 1000))
	if got := uids(late.candidates(marked, false)); len(got) != 1 || got[0] != 0 {
		t.Error("before the record of the second program:", got)
	}
	late.opened(record{id: second})
	if got := uids(late.candidates(marked, false)); len(got) != 1 || got[0] != 1000 {
		t.Error("behind it:", got)
	}

	// With a record more than programs, an execve failed: which one, nobody knows.
	failed := chain()
	failed.opened(record{id: fileID{1, 4}})
	failed.opened(record{id: second})
	failed.settle(1)
	failed.begin(began(second, 2, 1000))
	if got := uids(failed.candidates(marked, false)); len(got) != 2 {
		t.Error("with a failed execve:", got)
	}
}
