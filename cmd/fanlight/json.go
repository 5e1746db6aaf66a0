package main

import "fanlight/event"

// jsonForm writes records as JSON objects.
type jsonForm struct {
	encoder event.Encoder
	end     byte
}

func (f *jsonForm) append(b []byte, e *event.Event) []byte {
	return append(f.encoder.Append(b, e), f.end)
}
