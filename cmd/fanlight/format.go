package main

import (
	"fmt"
	"strconv"
	"strings"

	"fanlight/event"
	"fanlight/fanotify"
)

// formatDirectives are the letters after % that --format knows.
const formatDirectives = "wfeTpnPcxa0%"

// templateForm writes records in the form of --format.
type templateForm struct {
	pieces []piece
	clock  clock
	end    byte
}

// piece is a stretch of a format: literal text and the directive behind it, 0 at the end of the format.
type piece struct {
	literal   string
	directive byte
}

// newTemplateForm reads a format. The error says what is wrong with it and which directives there are.
func newTemplateForm(format, timeFormat string, end byte) (*templateForm, error) {
	f := &templateForm{clock: clock{format: timeFormat}, end: end}
	for rest := format; rest != ""; {
		literal, after, found := strings.Cut(rest, "%")
		if !found {
			f.pieces = append(f.pieces, piece{literal: literal})
			break
		}
		if after == "" || !strings.Contains(formatDirectives, after[:1]) {
			return nil, fmt.Errorf("--format: unknown directive %q: use %s", "%"+after[:min(1, len(after))],
				"%"+strings.Join(strings.Split(formatDirectives, ""), " %"))
		}
		f.pieces = append(f.pieces, piece{literal: literal, directive: after[0]})
		rest = after[1:]
	}
	return f, nil
}

func (f *templateForm) append(b []byte, e *event.Event) []byte {
	path := e.Path
	if e.Mask.Has(fanotify.Overflow) {
		path = e.Scope
	}
	name := strings.LastIndexByte(path, '/') + 1
	for i := range f.pieces {
		b = append(b, f.pieces[i].literal...)
		switch f.pieces[i].directive {
		case 'w':
			b = f.name(b, path[:name])
		case 'f':
			b = f.name(b, path[name:])
		case 'p':
			b = f.name(b, path)
		case 'n':
			b = f.name(b, e.NewPath)
		case 'e':
			if e.Lost > 0 {
				b = append(b, "lost"...)
			} else {
				b = appendEvents(b, e.Mask)
			}
		case 'T':
			b = f.clock.append(b, e.Time)
		case 'P':
			if e.PID != 0 {
				b = strconv.AppendInt(b, int64(e.PID), 10)
			}
		case 'c':
			if e.Process != nil {
				b = f.name(b, e.Process.Comm)
			}
		case 'a':
			if e.Process != nil {
				b = appendAncestors(b, e.Process, ' ', f.name)
			}
		case 'x':
			if e.Process != nil {
				b = f.name(b, e.Process.Exe)
			}
		case '0':
			b = append(b, 0)
		case '%':
			b = append(b, '%')
		}
	}
	return append(b, f.end)
}

// appendEnd appends an empty record behind a batch.
func (f *templateForm) appendEnd(b []byte, _ batchEnd) []byte { return append(b, f.end) }

// name appends a name as it is where NUL ends a record, which no name holds, and escaped where a newline does.
func (f *templateForm) name(b []byte, s string) []byte {
	if f.end == 0 {
		return append(b, s...)
	}
	return appendEscaped(b, s)
}
