package pgtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// childVariable makes the test binary a program that starts a server, prints
// its directory and waits to be ended.
const childVariable = "DIXIE_PGTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

func child() {
	s, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.eng.(*cluster).dir)
	time.Sleep(10 * time.Minute) // longer than any test
}
