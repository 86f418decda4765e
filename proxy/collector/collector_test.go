package collector

import "testing"

func TestGarbagePercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, mostGarbage}, {8 << 20, mostGarbage}, {31 << 20 / 3, mostGarbage}, {31 << 19, 100}, {20 << 20, leastGarbage}, {1 << 40, leastGarbage},
	} {
		if got := garbagePercent(c.live); got != c.want {
			t.Errorf("with %d bytes alive: %d %%, want %d", c.live, got, c.want)
		}
	}
}
