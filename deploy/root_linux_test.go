package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// imageUser is the user of the image, whose number the Dockerfile has as well.
const imageUser = 65532

// namespaces are those in which a root can be made: as root, or as a user who
// becomes root in a namespace of users.
func namespaces() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return attributes
}

// enter makes this process a program in a root that cannot be written to, except
// for a volume at /data, as the user of the image. It returns only if it fails.
func enter(root string, args []string) error {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	privileged := len(strings.Fields(string(users))) == 3 && strings.Fields(string(users))[2] != "1"
	steps := []func() error{
		func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") },
		func() error { return syscall.Mount(root, root, "", syscall.MS_BIND, "") },
		func() error { return mountVolume(filepath.Join(root, "data"), privileged) },
		func() error {
			return syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV, "")
		},
		func() error { return syscall.Chroot(root) },
		func() error { return os.Chdir("/") },
		func() error { return mustRefuse(os.WriteFile("/written", nil, 0o600)) },
	}
	if privileged { // a user who became root is none outside, and cannot become another
		steps = append(steps,
			func() error { return syscall.Setgroups(nil) },
			func() error { return syscall.Setgid(imageUser) },
			func() error { return syscall.Setuid(imageUser) },
		)
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, enterVariable) })
	return syscall.Exec(args[0], args, env)
}

func mountVolume(at string, privileged bool) error {
	options := "mode=0700"
	if privileged {
		options += fmt.Sprintf(",uid=%d,gid=%d", imageUser, imageUser)
	}
	return syscall.Mount("volume", at, "tmpfs", 0, options)
}

// mustRefuse is an error when nothing was refused.
func mustRefuse(err error) error {
	if err == nil {
		return fmt.Errorf("the root can be written to")
	}
	return nil
}
