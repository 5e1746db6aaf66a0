package main

import (
	"fmt"

	"fanlight/event"
)

// jsonForm writes records as JSON objects.
type jsonForm struct {
	encoder event.Encoder
	end     byte
}

func (f *jsonForm) append(b []byte, e *event.Event) []byte {
	return append(f.encoder.Append(b, e), f.end)
}

// appendEnd appends an object that is an event of nothing to those who don't know of batches.
func (f *jsonForm) appendEnd(b []byte, end batchEnd) []byte {
	at := end.time.UTC().Format("2006-01-02T15:04:05.000000000Z")
	b = fmt.Appendf(b, `{"seq":%d,"time":"%s","events":[],"batch":%d,"settled":%t}`, end.seq, at, end.number, end.settled)
	return append(b, f.end)
}
