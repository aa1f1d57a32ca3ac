package main

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// compressed reports whether a file is gzip, by its name.
func compressed(name string) bool { return strings.HasSuffix(name, ".gz") }

// openInput opens a file to read, or standard input for "-". The size is 0 when it
// is not known. What is read is as it is in the file.
func openInput(c *console, name string) (in io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(c.in), 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	if info.Mode().IsRegular() {
		size = info.Size()
	}
	return file, size, nil
}

// decompress reads gzip, recognised by how it begins, and anything else as it is.
func decompress(in io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(in, 64<<10)
	start, err := buffered.Peek(2)
	if err != nil || start[0] != 0x1f || start[1] != 0x8b {
		return buffered, nil // a short or empty file is for the reader to judge
	}
	plain, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("read gzip: %w", err)
	}
	return plain, nil
}

// output is a file that appears under its name when it is complete, or standard
// output.
type output struct {
	io.Writer
	closers []io.Closer // innermost last
	temp    string
	name    string
}

// createOutput opens a file to write, or standard output for "-". A name that ends
// in .gz is compressed.
func createOutput(c *console, name string) (*output, error) {
	if name == "-" {
		buffered := bufio.NewWriterSize(c.out, 64<<10)
		return &output{Writer: buffered, closers: []io.Closer{flusher{buffered}}}, nil
	}
	temp := name + ".part"
	file, err := os.Create(temp)
	if err != nil {
		return nil, err
	}
	o := &output{temp: temp, name: name, closers: []io.Closer{file}}
	buffered := bufio.NewWriterSize(file, 64<<10)
	o.Writer = buffered
	o.closers = append([]io.Closer{flusher{buffered}}, o.closers...)
	if compressed(name) {
		zipped := gzip.NewWriter(buffered)
		o.Writer = zipped
		o.closers = append([]io.Closer{zipped}, o.closers...)
	}
	return o, nil
}

type flusher struct{ w *bufio.Writer }

func (f flusher) Close() error { return f.w.Flush() }

// commit completes the file.
func (o *output) commit() error {
	if err := o.close(); err != nil {
		return err
	}
	if o.temp == "" {
		return nil
	}
	return os.Rename(o.temp, o.name)
}

// discard removes what has been written so far.
func (o *output) discard() {
	_ = o.close()
	if o.temp != "" {
		_ = os.Remove(o.temp)
	}
}

func (o *output) close() error {
	var all []error
	for _, closer := range o.closers {
		all = append(all, closer.Close())
	}
	o.closers = nil
	return errors.Join(all...)
}
