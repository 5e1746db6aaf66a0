// Package fnmatch matches texts against glob patterns as fnmatch(3) of the GNU C library does with FNM_EXTMATCH and
// no other flag, in polynomial time.
//
// A pattern matches a whole text or not at all:
//
//   - any text, also the empty one
//     ?            one character
//     [ab0-9]      one character of the set; [!...] and [^...] one that isn't in it
//     [[:alpha:]]  a class: alnum alpha blank cntrl digit graph lower print punct space upper xdigit
//     [[=a=]] [[.a.]]  the character itself, as in the C locale
//     \x           the character x, whatever it means otherwise
//     ?(a|b)       nothing or one of the alternatives
//     *(a|b)       any number of them
//     +(a|b)       at least one
//     @(a|b)       exactly one
//     !(a|b)       any text that none of the alternatives matches as a whole
//
// Alternatives are patterns and may hold further groups. A slash or a leading period is a character like any other,
// so * crosses directories.
//
// A character is one UTF-8 sequence; a byte that is not part of one is a character of its own, which belongs to no
// class. Ranges go by code point, with such bytes above all of them. This is C.UTF-8's order.
//
// No pattern is an error. What is malformed means what it means to the C library: an unclosed bracket or group is
// literal text, a backslash at the end or an unknown class never matches. Where the C library contradicts its own
// documentation this package follows the documentation; the tests list these places.
//
// A Pattern is immutable and safe for concurrent use. Matching doesn't allocate, except that a pattern with groups
// may need memory for its first matches, which is kept for the next ones.
package fnmatch
