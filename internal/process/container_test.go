package process

import (
	"strings"
	"testing"
)

func TestCgroup(t *testing.T) {
	for file, want := range map[string]string{
		"":                                     "",
		"0::/\n":                               "/",
		"0::/user.slice/a:b\n":                 "/user.slice/a:b",
		"12:pids:/a\n0::/b\n":                  "/b",
		"12:pids:/a\n0::/\n":                   "/a",
		"12:pids:/\n3:cpu,cpuacct:/docker/c\n": "/docker/c",
		"nonsense\n":                           "",
	} {
		if got := cgroupOf([]byte(file)); got != want {
			t.Errorf("%q: %q, want %q", file, got, want)
		}
	}
}

func TestContainer(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for cgroup, want := range map[string]string{
		"":                          "",
		"/":                         "",
		"/system.slice/ssh.service": "",
		"/user.slice/user-1000.slice/session-2.scope": "",
		"/docker/" + id: id,
		"/docker/" + id + "/system.slice/inner.service":                                                          id,
		"/system.slice/docker-" + id + ".scope":                                                                  id,
		"/system.slice/docker-" + id[1:] + ".scope":                                                              "",
		"/machine.slice/libpod-" + id + ".scope/container":                                                       id,
		"/machine.slice/libpod-conmon-" + id + ".scope":                                                          "",
		"/user.slice/user-1.slice/user@1.service/user.slice/libpod-" + id + ".scope":                             id,
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + id + ".scope": id,
		"/kubepods/besteffort/pod0a1b/" + id:                                                                     id,
		"/kubepods.slice/crio-" + id + ".scope":                                                                  id,
		"/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + id:                              id,
		"/default/" + id: id,
		"/machine.slice/machine-web.scope/payload":          "web",
		`/machine.slice/machine-a\x2db.scope`:               "a-b",
		"/machine.slice/systemd-nspawn@web.service/payload": "web",
		"/lxc/web/init.scope":                               "web",
		"/lxc.payload.web/system.slice/ssh.service":         "web",
		"/lxc.monitor.web":                                  "",
	} {
		if got := containerOf(cgroup); got != want {
			t.Errorf("%s: %q, want %q", cgroup, got, want)
		}
	}
}
