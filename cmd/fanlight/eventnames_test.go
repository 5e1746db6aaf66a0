package main

import (
	"strings"
	"testing"

	"fanlight/fanotify"
)

func TestParseEvents(t *testing.T) {
	for _, test := range []struct {
		lists []string
		want  fanotify.Mask
	}{
		{nil, changeEvents},
		{[]string{"changes"}, fanotify.Create | fanotify.Delete | fanotify.Rename | fanotify.Modify |
			fanotify.CloseWrite | fanotify.Attrib | fanotify.MntAttach | fanotify.MntDetach},
		{[]string{"reads"}, fanotify.Open | fanotify.Access | fanotify.CloseNowrite | fanotify.OpenExec},
		{[]string{"all"}, changeEvents | readEvents | fanotify.DeleteSelf | fanotify.MoveSelf},
		{[]string{"create,delete"}, fanotify.Create | fanotify.Delete},
		{[]string{"create", "Delete , moved_to"}, fanotify.Create | fanotify.Delete | fanotify.MovedTo},
	} {
		if got, err := parseEvents(test.lists); got != test.want || err != nil {
			t.Errorf("parseEvents(%q) = %v, %v; want %v", test.lists, got, err, test.want)
		}
	}
}

func TestParseEventsReadsEveryNameThatItOffers(t *testing.T) {
	for _, name := range eventNames() {
		if mask, err := parseEvents([]string{name}); mask == 0 || err != nil {
			t.Errorf("parseEvents(%q) = %v, %v", name, mask, err)
		}
	}
}

func TestParseEventsRefuses(t *testing.T) {
	for _, list := range []string{"creat", "", "create,", "ondir", "overflow", "open_perm", "0x100", "create|delete"} {
		mask, err := parseEvents([]string{list})
		if err == nil {
			t.Errorf("parseEvents(%q) = %v, want an error", list, mask)
			continue
		}
		for _, name := range eventNames() {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the error for %q doesn't offer %s: %v", list, name, err)
			}
		}
	}
}
