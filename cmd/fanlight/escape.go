package main

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// appendEscaped appends the name or path s in a form that can't drive a terminal, make a second line or pass for
// something else, and that loses nothing: printable UTF-8 stays as it is, a backslash is doubled, every other byte
// becomes \n, \r, \t or \xNN, and so does the > of " ->", which stands between the two paths of a rename.
// printf '%b' of bash gives the bytes back.
func appendEscaped(b []byte, s string) []byte {
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '\\' && (c != '>' || !strings.HasSuffix(s[:i], " -")) {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || n > 1) && strconv.IsPrint(r) {
				i += n
				continue
			}
			size = n
		}
		b = append(b, s[done:i]...)
		for range size {
			b = appendEscapedByte(b, s[i])
			i++
		}
		done = i
	}
	return append(b, s[done:]...)
}

func appendEscapedByte(b []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '\\':
		return append(b, `\\`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'x', hex[c>>4], hex[c&0xf])
}

// oneLine returns a message for people with everything escaped that isn't printable. Unlike a path it may already
// hold escapes, so its backslashes stay.
func oneLine(message string) string {
	var b []byte
	for i, part := range strings.Split(message, `\`) {
		if i > 0 {
			b = append(b, '\\')
		}
		b = appendEscaped(b, part)
	}
	return string(b)
}
