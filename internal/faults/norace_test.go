//go:build !race

package faults_test

const withRaceDetector = false
