package main

import (
	"time"

	"github.com/ncruces/go-strftime"
)

// defaultTimeFormat shows local time with milliseconds.
const defaultTimeFormat = "%H:%M:%S.%L"

// clock writes times in one strftime(3) format. Events that were read together have the same time, so the last text
// is kept.
type clock struct {
	format string
	last   time.Time
	text   []byte
}

func (c *clock) append(b []byte, t time.Time) []byte {
	if c.text == nil || !t.Equal(c.last) {
		c.last = t
		c.text = strftime.AppendFormat(c.text[:0], c.format, t.Local())
	}
	return append(b, c.text...)
}
