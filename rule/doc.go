// Package rule says which events somebody wants: a Rule is written by a person or sent by a client, a Matcher is its
// compiled form that is asked about each event. It does no I/O, starts nothing and never logs.
//
// # Terms
//
// An event matches a rule if all of the rule's terms hold:
//
//	events        one of these bits is in the event
//	pids          the process is one of these or, with descendants, descends from one
//	exclude_tree  the process is none of these and descends from none
//	exe           the executable of the process, as /proc/PID/exe has it, matches these patterns
//	cwd           the working directory of the process does
//	path          the path of the event does
//	uids          the real user of the process is one of these
//	containers    the container of the process is one of these, by its whole id
//
// A term that is empty holds always, but a rule needs at least one that isn't. What an event doesn't say holds no term
// that asks for it: without a known process, pids, exe, cwd, uids and containers don't match, unless exe or cwd only
// excludes; exclude_tree and lists that only exclude let pass what isn't known.
//
// The bit ondir is an event like the others here: a rule that asks for it matches any event of a directory, and a rule
// that doesn't still matches the events of directories that it asks for.
//
// An overflow and a record with a loss match every rule: nobody must miss that something was missed.
//
// # Patterns
//
// A pattern is a glob with the meaning of fnmatch(3) with FNM_EXTMATCH (see internal/fnmatch), at most MaxPattern bytes
// long: * and ? match slashes too. A pattern behind a hyphen excludes. A list holds if one of its patterns matches and
// none that excludes does; a list in which all patterns exclude holds for everything else. To begin a pattern with a
// hyphen, write [-] or \-.
//
// A rename has two paths. Each is asked alone, and the term holds if it holds for one of them: a file that is moved out
// of an excluded directory is seen, one that is moved inside of it is not. A path that is left out of a rename
// isn't asked.
package rule
