package rule

import "fanlight/fanotify"

// Rule says which events somebody wants. All terms must hold; an empty term holds always.
type Rule struct {
	Name        string
	Events      fanotify.Mask
	PIDs        []int32
	Descendants bool
	ExcludeTree []int32
	Exe         []string
	Cwd         []string
	Path        []string
	UIDs        []uint32
	Containers  []string
	PassFD      bool
}
