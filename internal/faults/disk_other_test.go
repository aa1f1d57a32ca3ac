//go:build !linux

package faults_test

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func mountDisk(testing.TB) (string, error) {
	return "", errors.New("small file systems to fill up are made on Linux only")
}

func fillDisk(*world, *rand.Rand) (heal func()) { return func() {} }
