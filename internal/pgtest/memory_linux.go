package pgtest

import "syscall"

// freeBytes is how much fits into dir, 0 if that is not a file system in memory.
func freeBytes(dir string) uint64 {
	const tmpfs = 0x01021994
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Type != tmpfs {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}
