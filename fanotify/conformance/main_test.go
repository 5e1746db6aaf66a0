package conformance_test

import (
	"testing"

	"fanlight/internal/fstest"
)

func TestMain(m *testing.M) { fstest.Main(m) }
