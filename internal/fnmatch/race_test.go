//go:build race

package fnmatch

// raceDetector makes everything ten times slower, and sync.Pool forgetful.
const raceDetector = true
