package process

import (
	"bytes"
	"strings"
)

// cgroupOf returns the control group in a file like /proc/PID/cgroup (cgroups(7)): that of version 2, or without one
// the first that isn't the root.
func cgroupOf(file []byte) string {
	first := ""
	for line := range bytes.Lines(file) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[0] == "0" && fields[2] != "/":
			return fields[2]
		case first == "" || first == "/":
			first = fields[2]
		}
	}
	return first
}

// containerOf returns the id of the container that a control group is of, empty for none: of docker, podman,
// containerd, CRI-O and Kubernetes the 64 digits, of systemd-nspawn and lxc the name of the machine.
func containerOf(cgroup string) string {
	id := ""
	for component := range strings.SplitSeq(cgroup, "/") {
		if name, ok := strings.CutPrefix(component, "lxc.payload."); ok && name != "" {
			id = name
			continue
		}
		scope, isScope := strings.CutSuffix(component, ".scope")
		if name, ok := strings.CutPrefix(scope, "machine-"); ok && isScope && name != "" {
			id = unescapeUnit(name)
			continue
		}
		if name, ok := strings.CutPrefix(strings.TrimSuffix(component, ".service"), "systemd-nspawn@"); ok && name != "" {
			id = unescapeUnit(name)
			continue
		}
		// ID, docker-ID.scope, cri-containerd-ID.scope, libpod-ID.scope, .../docker/ID, kubepods:cri-containerd:ID
		name := scope[strings.LastIndexAny(scope, "-:")+1:]
		if isHexID(name) && !strings.Contains(scope, "conmon") {
			id = name
		}
	}
	if id != "" {
		return id
	}
	// Before its version 4, lxc had a control group of its name below one called lxc.
	if _, rest, ok := strings.Cut(cgroup, "/lxc/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	return ""
}

// isHexID reports whether s is what container engines call a container: 64 hexadecimal digits.
func isHexID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// unescapeUnit takes back what systemd did to a name to put it into that of a unit (systemd.unit(5)): \xHH.
func unescapeUnit(name string) string {
	var b []byte
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+3 < len(name) && name[i+1] == 'x' {
			if high, low := hexDigit(name[i+2]), hexDigit(name[i+3]); high >= 0 && low >= 0 {
				b = append(b, byte(high<<4|low))
				i += 3
				continue
			}
		}
		b = append(b, name[i])
	}
	return string(b)
}

func hexDigit(c byte) int { return strings.IndexByte("0123456789abcdef", c) }
