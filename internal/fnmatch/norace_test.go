//go:build !race

package fnmatch

const raceDetector = false
