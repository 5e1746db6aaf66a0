package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOutputGoesOnWithTheOldFileWhenTheNewOneFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := openOutput(filepath.Join(dir, "log"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := out.reopen(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reopen = %v, want that the file isn't there", err)
	}
	if _, err := out.Write([]byte("record\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(moved, "log")); string(got) != "record\n" || err != nil {
		t.Errorf("the old file holds %q, %v", got, err)
	}
}

func TestOutputIsStandardOutputWithoutAPath(t *testing.T) {
	var stdout bytes.Buffer
	out, err := openOutput("", &stdout)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("record\n")); err != nil || stdout.String() != "record\n" {
		t.Errorf("wrote %q, %v", stdout.String(), err)
	}
	if err := out.close(); err != nil {
		t.Error(err)
	}
}
