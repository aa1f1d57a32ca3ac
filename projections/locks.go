package projections

// The advisory locks of a projection. The key of each is one of these and the hash of
// the projection's name.
const (
	projectorLock = "1684633706" // of its projector, for as long as it is that
	rebuildLock   = "1684633707" // of whoever rebuilds it, for as long as that takes
	loadingLock   = "1684633708" // of whoever loads its tables without holding rebuildLock
)

// holdsLock is SQL that says whether a session holds a lock of a projection. projection
// and pid, the session's process, are SQL.
func holdsLock(lock, projection, pid string) string {
	return `EXISTS (
	       SELECT FROM pg_locks AS l
	        WHERE l.locktype = 'advisory' AND l.granted AND l.pid = ` + pid + ` AND l.classid = ` + lock + `
	          AND l.objid = (hashtext(` + projection + `)::bigint & 4294967295)::oid
	          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))`
}
