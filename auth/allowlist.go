package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
)

// What changes of an allowlist may fail with, besides errors of its file.
var (
	ErrNoEntry     = errors.New("the allowlist has no such entry")
	ErrEntryExists = errors.New("the allowlist has this entry already")
)

const (
	// defaultPoll is how often Run looks at the file.
	defaultPoll = time.Second

	// lockTimeout is how long a change waits for those of other processes, and
	// lockRetry how often it tries.
	lockTimeout = 10 * time.Second
	lockRetry   = 20 * time.Millisecond
)

// Allowlist is the file of the wallets that may sign in and of the API keys. It is
// safe for concurrent use, and so is its file: any number of processes, on any number
// of machines that share it, may change it.
//
// What is found is what the file said when it was last read and understood. One that
// becomes unreadable changes nothing, and is not written to either.
type Allowlist struct {
	// Poll is how often Run looks whether the file has changed; 0 means every second.
	// It must not change while Run runs.
	Poll time.Duration

	path   string // empty: what follows is kept in memory
	logger *slog.Logger
	also   Keys // in no file

	changing sync.Mutex // one change or reload at a time; guards what follows
	pending  [sha256.Size]byte
	trouble  string
	memory   []byte // what the file would say if there were one; nil before a change

	current atomic.Pointer[allowed]
}

// allowed is what a file allows. It does not change.
type allowed struct {
	digest  [sha256.Size]byte // of the file's text; zero when there was no file
	keys    *Keys
	wallets map[Address]bool
	entries Entries
}

func (a *allowed) exists() bool { return a.digest != [sha256.Size]byte{} }

// Entries are what a file lists, in its order.
type Entries struct {
	Wallets   []Address
	Keys      []Key
	UpdatedAt time.Time // zero when the file does not say
}

// OpenAllowlist reads a file. One that does not exist lists nothing until something is
// added; one that cannot be read or understood is an error, and never taken for an
// empty one. Plain API keys that the service before this one left there are replaced by
// their hashes at once if the file can be written.
func OpenAllowlist(path string, logger *slog.Logger) (*Allowlist, error) {
	a := NewAllowlist(logger)
	a.path = path
	a.changing.Lock()
	defer a.changing.Unlock()
	text, err := readAllowlist(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = a.load(context.Background(), text)
	}
	if err != nil {
		return nil, fmt.Errorf("read the allowlist %s: %w", path, err)
	}
	return a, nil
}

// NewAllowlist returns a list that is kept in memory and lost with it. It lists nothing
// until something is added.
func NewAllowlist(logger *slog.Logger) *Allowlist {
	a := &Allowlist{logger: logger}
	a.current.Store(&allowed{keys: &Keys{}})
	return a
}

// load takes over what a file says.
func (a *Allowlist) load(ctx context.Context, text []byte) error {
	file, err := parseAllowlist(text)
	if err != nil {
		return err
	}
	for _, entry := range file.useless() {
		a.logger.WarnContext(ctx, "an entry of the allowlist can never work", "path", a.path, "entry", entry.place, "reason", entry.reason)
	}
	plain := file.hashPlainKeys(time.Now())
	a.use(file, text)
	if plain == 0 {
		return nil
	}
	if err := a.changeLocked(ctx, time.Now(), func(*allowlistFile) error { return nil }); err != nil {
		a.logger.WarnContext(ctx, "the allowlist holds plain API keys, which work, and cannot be written to replace them by hashes",
			"path", a.path, "keys", plain, "error", err)
		return nil
	}
	a.logger.InfoContext(ctx, "plain API keys in the allowlist were replaced by their hashes", "path", a.path, "keys", plain)
	return nil
}

// use makes what a file says effective.
func (a *Allowlist) use(file *allowlistFile, text []byte) {
	now := &allowed{digest: sha256.Sum256(text), keys: &Keys{}, wallets: map[Address]bool{}}
	for _, entry := range file.Wallets {
		if wallet, err := ParseAddress(entry); err == nil && !now.wallets[wallet] {
			now.wallets[wallet] = true
			now.entries.Wallets = append(now.entries.Wallets, wallet)
		}
	}
	for _, key := range file.Keys {
		if key.plain == nil {
			now.keys.Add(key.Key)
			now.entries.Keys = append(now.entries.Keys, key.Key)
		}
	}
	now.entries.UpdatedAt = file.UpdatedAt
	a.current.Store(now)
}

// Find returns the key that a secret belongs to, or [ErrUnknownKey], like [Keys.Find].
func (a *Allowlist) Find(secret string) (Key, error) {
	sum := sha256.Sum256([]byte(secret))
	if key, ok := a.current.Load().keys.find(sum); ok {
		return key, nil
	}
	if key, ok := a.also.find(sum); ok {
		return key, nil
	}
	return Key{}, ErrUnknownKey
}

// HasWallet reports whether a wallet may sign in.
func (a *Allowlist) HasWallet(wallet Address) bool { return a.current.Load().wallets[wallet] }

// Entries are what the file lists that can work.
func (a *Allowlist) Entries() Entries {
	e := a.current.Load().entries
	return Entries{Wallets: slices.Clone(e.Wallets), Keys: slices.Clone(e.Keys), UpdatedAt: e.UpdatedAt}
}

// Also makes a key known to this process, but to no file.
func (a *Allowlist) Also(key Key) { a.also.Add(key) }

// AddWallet lists a wallet. It fails with [ErrEntryExists] if it is listed.
func (a *Allowlist) AddWallet(ctx context.Context, wallet Address, now time.Time) error {
	return a.change(ctx, now, func(f *allowlistFile) error {
		if slices.ContainsFunc(f.Wallets, isWallet(wallet)) {
			return fmt.Errorf("%w: wallet %s", ErrEntryExists, wallet)
		}
		f.Wallets = append(f.Wallets, wallet.String())
		return nil
	})
}

// RemoveWallet removes a wallet from the list. It fails with [ErrNoEntry] if it is not
// there. Tokens that the wallet has are worth what the caller of HasWallet makes of
// them.
func (a *Allowlist) RemoveWallet(ctx context.Context, wallet Address, now time.Time) error {
	return a.change(ctx, now, func(f *allowlistFile) error {
		before := len(f.Wallets)
		f.Wallets = slices.DeleteFunc(f.Wallets, isWallet(wallet))
		if len(f.Wallets) == before {
			return fmt.Errorf("%w: wallet %s", ErrNoEntry, wallet)
		}
		return nil
	})
}

// AddKey lists a key that [NewKey] or [KeyOf] made. It fails with [ErrEntryExists] if
// the name or the secret is another key's.
func (a *Allowlist) AddKey(ctx context.Context, key Key, now time.Time) error {
	if err := errors.Join(key.check(), CheckKeyName(key.Name)); err != nil {
		return fmt.Errorf("add an API key: %w", err)
	}
	return a.change(ctx, now, func(f *allowlistFile) error {
		if slices.ContainsFunc(f.Keys, isNamed(key.Name)) {
			return fmt.Errorf("%w: a key named %q; choose another name", ErrEntryExists, key.Name)
		}
		if at := slices.IndexFunc(f.Keys, func(k fileKey) bool { return k.Hash == key.Hash }); at >= 0 {
			return fmt.Errorf("%w: the same key, named %q", ErrEntryExists, f.Keys[at].Name)
		}
		f.Keys = append(f.Keys, fileKey{storedKey: storedKey{Key: key}})
		return nil
	})
}

// RemoveKey removes the key of a name, which stops working. It fails with [ErrNoEntry]
// if there is none.
func (a *Allowlist) RemoveKey(ctx context.Context, name string, now time.Time) error {
	return a.change(ctx, now, func(f *allowlistFile) error {
		before := len(f.Keys)
		f.Keys = slices.DeleteFunc(f.Keys, isNamed(name))
		if len(f.Keys) == before {
			return fmt.Errorf("%w: a key named %q", ErrNoEntry, name)
		}
		return nil
	})
}

// RotateKey gives the key of a name another secret, which is returned once. The former
// one stops working. It fails with [ErrNoEntry] if there is none.
func (a *Allowlist) RotateKey(ctx context.Context, name string, now time.Time) (secret string, key Key, err error) {
	err = a.change(ctx, now, func(f *allowlistFile) error {
		at := slices.IndexFunc(f.Keys, isNamed(name))
		if at < 0 {
			return fmt.Errorf("%w: a key named %q", ErrNoEntry, name)
		}
		secret, key = NewKey(name, f.Keys[at].Scopes, now)
		f.Keys[at].Key = key
		f.Keys = slices.DeleteFunc(f.Keys, func(k fileKey) bool { return isNamed(name)(k) && k.Hash != key.Hash })
		return nil
	})
	if err != nil {
		return "", Key{}, err
	}
	return secret, key, nil
}

// change changes the file, based on what it says now, and makes that effective. A file
// that cannot be read and understood is left as it is.
func (a *Allowlist) change(ctx context.Context, now time.Time, apply func(*allowlistFile) error) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.changeLocked(ctx, now, apply)
}

func (a *Allowlist) changeLocked(ctx context.Context, now time.Time, apply func(*allowlistFile) error) error {
	if a.path == "" {
		return a.changeMemory(now, apply)
	}
	path := a.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a rename would replace the link
	}
	unlock, err := lockFile(ctx, path)
	if err != nil {
		return fmt.Errorf("change the allowlist %s: %w", a.path, err)
	}
	defer unlock()
	file, err := a.readToChange(path)
	if err != nil {
		return fmt.Errorf("change the allowlist %s, which is left as it is: %w", a.path, err)
	}
	file.hashPlainKeys(now)
	if err := apply(file); err != nil {
		return err
	}
	text, err := file.encode(now)
	if err == nil {
		err = replaceFile(path, text)
	}
	if err != nil {
		return fmt.Errorf("change the allowlist %s: %w", a.path, err)
	}
	a.use(file, text)
	return nil
}

// changeMemory changes a list that has no file.
func (a *Allowlist) changeMemory(now time.Time, apply func(*allowlistFile) error) error {
	file := &allowlistFile{Version: 1}
	if a.memory != nil {
		var err error
		if file, err = parseAllowlist(a.memory); err != nil {
			return fmt.Errorf("change the allowlist in memory: %w", err)
		}
	}
	if err := apply(file); err != nil {
		return err
	}
	text, err := file.encode(now)
	if err != nil {
		return fmt.Errorf("change the allowlist in memory: %w", err)
	}
	a.memory = text
	a.use(file, text)
	return nil
}

// readToChange reads the file that a change is based on.
func (a *Allowlist) readToChange(path string) (*allowlistFile, error) {
	text, err := readAllowlist(path)
	if errors.Is(err, fs.ErrNotExist) && !a.current.Load().exists() {
		return &allowlistFile{Version: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseAllowlist(text)
}

// lockFile keeps other processes from changing a file until unlock is called. The lock
// is on a file beside it, because the file itself is replaced.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	_, owner, err := ownership(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	likeOwner(lock.Path(), owner)
	return func() { _ = lock.Close() }, nil
}

// Run takes over what the file says whenever it has changed, until ctx ends. A change
// counts when the file reads the same twice, so that one who is writing is not
// interrupted. A file that has become unreadable, corrupt or lost is reported once, and
// what it said before stays.
//
// The file is read again and compared, and not watched: events do not tell what other
// machines write to a shared volume, or what a container's orchestrator puts in its
// place.
func (a *Allowlist) Run(ctx context.Context) {
	if a.path == "" {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(cmp.Or(max(a.Poll, 0), defaultPoll))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.look(ctx)
		}
	}
}

// look takes over what the file says if it has changed and come to rest.
func (a *Allowlist) look(ctx context.Context) {
	if !a.changing.TryLock() {
		return // it is being changed here
	}
	defer a.changing.Unlock()
	text, err := readAllowlist(a.path)
	if errors.Is(err, fs.ErrNotExist) && !a.current.Load().exists() {
		return
	}
	digest := sha256.Sum256(text)
	if err == nil && digest != a.current.Load().digest {
		if digest != a.pending {
			a.pending = digest
			return
		}
		err = a.load(ctx, text)
		if err == nil {
			e := a.current.Load().entries
			a.logger.InfoContext(ctx, "the allowlist has changed", "path", a.path, "wallets", len(e.Wallets), "keys", len(e.Keys))
		}
	}
	a.report(ctx, err)
}

// report tells once what is wrong with the file, or that nothing is any more.
func (a *Allowlist) report(ctx context.Context, err error) {
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble == a.trouble {
		return
	}
	a.trouble = trouble
	if err == nil {
		a.logger.InfoContext(ctx, "the allowlist can be read again", "path", a.path)
		return
	}
	a.logger.ErrorContext(ctx, "the allowlist cannot be read; what it said before stays", "path", a.path, "error", err)
}
