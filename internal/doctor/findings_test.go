package doctor

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// healthy is a report in which nothing is wrong.
func healthy() *Report {
	return &Report{
		Privilege: Privilege{InitialNamespace: true, Has: []string{"CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"}},
		Mounts:    []Mount{{MountPoint: "/", FSType: "ext4", Watch: Watch{Form: FormFilesystem}}},
		Features:  []Feature{{Name: "rename", Answer: Yes}, {Name: "report_pidfd_tid", Answer: No}},
		Connector: Ability{Answer: Yes},
		Limits: []Limit{
			{Name: "fs.fanotify.max_queued_events", Value: 16384},
			{Name: "fs.fanotify.max_user_groups", Value: 128},
			{Name: "fs.fanotify.max_user_marks", Value: 1000},
			{Name: "user.max_fanotify_groups", Value: 100},
			{Name: "user.max_fanotify_marks", Value: 2000},
			{Name: "fs.fanotify.watchdog_timeout", Value: 10},
		},
		Users:     []User{{UID: 0, Name: "root", Groups: 79, Marks: 799}},
		Listeners: []Listener{{PID: 7, Comm: "scan", CanBlock: true, UnlimitedQueue: true}},
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(r *Report)
		hidden  bool
		missing error
		want    []string
	}{
		{name: "nothing is wrong", change: func(*Report) {}, want: []string{}},
		{name: "no fanotify", change: func(*Report) {}, missing: errors.New("none"), want: []string{"problem no_fanotify"}},
		{name: "no privilege", change: func(r *Report) { r.Privilege.Has = nil }, want: []string{"warning no_privilege"}},
		{name: "container", change: func(r *Report) { r.Privilege.InitialNamespace = false }, want: []string{"warning user_namespace"}},
		{name: "no handles", change: func(r *Report) { r.Privilege.Has = []string{"CAP_SYS_ADMIN"} },
			want: []string{"warning no_handles"}},
		{name: "hidepid", change: func(*Report) {}, hidden: true, want: []string{"warning proc_hidden"}},
		{name: "hidepid and privilege", change: func(r *Report) { r.Privilege.Has = append(r.Privilege.Has, "CAP_SYS_PTRACE") },
			hidden: true, want: []string{}},
		{name: "connector", change: func(r *Report) { r.Connector = Ability{Answer: No} }, want: []string{"note no_connector"}},
		{name: "old kernel", change: func(r *Report) { r.Features[0].Answer = No }, want: []string{"problem old_kernel"}},
		{name: "untried kernel", change: func(r *Report) { r.Features[0].Answer = Unknown }, want: []string{}},
		// 80 % of the lower of the two limits.
		{name: "groups", change: func(r *Report) { r.Users[0].Groups = 80 }, want: []string{"warning groups_used_up"}},
		{name: "marks", change: func(r *Report) { r.Users[0].Marks = 800 }, want: []string{"warning marks_used_up"}},
		{name: "queue", change: func(r *Report) { r.Limits[0].Value = 100 }, want: []string{"warning small_queue"}},
		{name: "no limits", change: func(r *Report) { r.Limits = nil }, want: []string{}},
		{name: "stopped", change: func(r *Report) { r.Listeners[0].Stopped = true }, want: []string{"problem listener_stopped"}},
		{name: "bounded", change: func(r *Report) { r.Listeners[0].UnlimitedQueue = false }, want: []string{"warning listener_queue"}},
		{name: "watchdog", change: func(r *Report) { r.Limits[5].Value = 0 }, want: []string{"note no_watchdog"}},
		{name: "only notified", change: func(r *Report) {
			r.Listeners[0] = Listener{Stopped: true}
			r.Limits[5].Value = 0
		}, want: []string{}},
		{name: "no answer", change: func(r *Report) { r.Mounts[0] = Mount{NoAnswer: true, Watch: Watch{Form: FormUnknown}} },
			want: []string{"problem no_answer"}},
		{name: "not watchable", change: func(r *Report) { r.Mounts[0].Watch.Form = FormNone }, want: []string{"problem not_watchable"}},
		{name: "directories", change: func(r *Report) {
			r.Mounts[0].Watch.Form = FormInodes
			r.Mounts[0].Inodes = 801
		}, want: []string{"warning many_directories"}},
		{name: "directories of a part", change: func(r *Report) {
			r.Mounts[0].Watch.Form = FormInodes
			r.Mounts[0].Inodes = 801
			r.Mounts[0].Asked = "/srv"
		}, want: []string{}},
		{name: "few directories", change: func(r *Report) {
			r.Mounts[0].Watch.Form = FormInodes
			r.Mounts[0].Inodes = 800
		}, want: []string{}},
		{name: "the worst first", change: func(r *Report) {
			r.Connector = Ability{Answer: No}
			r.Limits[0].Value = 1
			r.Mounts[0].Watch.Form = FormNone
		}, want: []string{"problem not_watchable", "warning small_queue", "note no_connector"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := healthy()
			c.change(r)
			got := []string{}
			for _, f := range r.judge(c.hidden, c.missing) {
				got = append(got, string(f.Level)+" "+f.Code)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// What is to be raised is the limit that is reached first.
func TestJudgeNamesTheLowerLimit(t *testing.T) {
	r := healthy()
	r.Users[0].Groups = 90
	found := r.judge(false, nil)
	i := slices.IndexFunc(found, func(f Finding) bool { return f.Code == "groups_used_up" })
	want := Finding{Warning, "groups_used_up", "root has 90 of 100 groups", "sysctl user.max_fanotify_groups=200"}
	if i < 0 || found[i] != want {
		t.Errorf("%+v, want %+v", found, want)
	}
}
