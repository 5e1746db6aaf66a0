// Package fstest gives tests real filesystems to stand on, and takes them away again.
//
// A package that uses it starts its tests through [Main] (or through [M], where something else wants to call Run):
//
//	func TestMain(m *testing.M) { fstest.Main(m) }
//
// Run as root, the tests then run in a mount namespace of their own, in which every mount is private: nothing that
// they mount is seen outside of it, and all of it ends with them, however they end. After the last test Main looks for
// descriptors, mounts and processes that were left behind, names them and fails.
//
// [New] mounts a fresh filesystem, [Each] runs a test on each of those that everything has to work on. Images lie in
// memory, have no name, and are given back with the last mount. [Unprivileged] runs a part of a test as a user who may
// do nothing, [NeedKernel] is the only reason for a test to be skipped.
//
// Without root the functions that need it fail the test; those that never call them run as they are.
package fstest
