package projections

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// copyChunk is about how many bytes of rows are made at once.
const copyChunk = 32 << 10

// loader fills tables.
type loader struct {
	conn   *pgx.Conn
	table  func(live string) string // is the name of the one to fill in the place of a live one
	freeze bool                     // rows, in tables that the same transaction has made
	piece  int                      // about how many bytes one statement loads; 0 is all of a table
	rest   float64                  // after each piece that was sent, as in effort
}

// copyRows loads rows. next writes one row, and answers false after the last. Rows that
// are frozen need no vacuum later, and a transaction with an older snapshot that comes
// to a table after the swap of a rebuild does not find it empty.
func (l loader) copyRows(ctx context.Context, live, columns string, next func(*copyWriter) bool) error {
	table, options := l.table(live), "FORMAT binary"
	if l.freeze {
		options += ", FREEZE"
	}
	sql := fmt.Sprintf(`COPY %s (%s) FROM STDIN WITH (%s)`, table, columns, options)
	for w := (&copyWriter{next: next, rest: l.rest, piece: l.piece}); !w.done; {
		w.begin()
		if _, err := l.conn.PgConn().CopyFrom(ctx, w, sql); err != nil {
			return unavailable("load "+table, err)
		}
	}
	return nil
}

// copyWriter writes rows in the format of binary COPY, as they are read.
type copyWriter struct {
	next  func(*copyWriter) bool
	buf   []byte
	at    int // in buf
	piece int // as in loader
	made  int // bytes of this statement
	ended bool
	done  bool // there are no more rows
	rest  float64
	sent  time.Time // when buf had been made
}

// begin begins a statement.
func (w *copyWriter) begin() {
	w.buf, w.at = append(w.buf[:0], "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...), 0
	w.made, w.ended, w.sent = 0, false, time.Now()
}

// Read implements [io.Reader].
func (w *copyWriter) Read(p []byte) (int, error) {
	if w.at == len(w.buf) {
		if w.ended {
			return 0, io.EOF
		}
		w.fill()
	}
	n := copy(p, w.buf[w.at:])
	w.at += n
	return n, nil
}

func (w *copyWriter) fill() {
	rest(w.rest, w.sent) // since when the database has worked
	defer func() { w.sent = time.Now() }()
	w.buf, w.at = w.buf[:0], 0
	for len(w.buf) < copyChunk && !w.done {
		w.done = !w.next(w)
	}
	w.made += len(w.buf)
	if w.ended = w.done || w.piece > 0 && w.made >= w.piece; w.ended {
		w.tuple(-1)
	}
}

// tuple begins a row.
func (w *copyWriter) tuple(fields int16) {
	w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(fields))
}

// value writes a value that put appends.
func (w *copyWriter) value(put func(dst []byte) []byte) {
	start := len(w.buf) + 4
	w.buf = put(append(w.buf, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(w.buf[start-4:], uint32(len(w.buf)-start))
}

func (w *copyWriter) text(s string) {
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *copyWriter) jsonb(text []byte) {
	w.value(func(dst []byte) []byte { return append(append(dst, jsonbVersion), text...) })
}

func (w *copyWriter) bigint(n int64) {
	w.buf = binary.BigEndian.AppendUint32(w.buf, 8)
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(n))
}

func (w *copyWriter) double(f float64) { w.bigint(int64(math.Float64bits(f))) }
