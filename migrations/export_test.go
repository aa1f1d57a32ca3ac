package migrations

import (
	"context"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

// UpFrom is Up with the files of another directory.
func UpFrom(ctx context.Context, conn *pgx.Conn, fsys fs.FS) ([]Migration, error) {
	steps, err := load(fsys)
	if err != nil {
		return nil, err
	}
	return up(ctx, conn, steps)
}

// CheckFrom is Check with the files of another directory.
func CheckFrom(ctx context.Context, db DB, fsys fs.FS) error {
	steps, err := load(fsys)
	if err != nil {
		return err
	}
	return check(ctx, db, steps)
}

// Files are the embedded files.
var Files fs.FS = files

var CheckServerVersion = checkServerVersion
