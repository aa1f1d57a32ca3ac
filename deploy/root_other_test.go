//go:build !linux

package deploy_test

import (
	"errors"
	"syscall"
)

func namespaces() *syscall.SysProcAttr { return nil }

func enter(string, []string) error { return errors.New("only Linux has namespaces") }
