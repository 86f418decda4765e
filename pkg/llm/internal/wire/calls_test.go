package wire_test

import (
	"strconv"
	"testing"

	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

func TestCalls(t *testing.T) {
	c := wire.Calls{Keep: 5}
	first := c.At(7)
	first.Name = "a"
	c.Append(first, []byte("123"))
	c.At(8) // a call of which nothing is known is not told of
	c.Append(c.At(7), []byte("45"))
	second := c.Add()
	second.Name = "b"
	c.Append(second, []byte("123"))
	c.Append(second, []byte("456"))
	c.Append(second, []byte("4"))
	list := c.List()
	if len(list) != 2 || string(list[0].Arguments) != "12345" || list[0].Truncated || string(list[1].Arguments) != "123" || !list[1].Truncated || list[0].Done {
		t.Errorf("%+v", list)
	}
	list[0].Arguments[0] = 'x'
	c.Done()
	if list = c.List(); string(list[0].Arguments) != "12345" || !list[0].Done || !list[1].Done {
		t.Errorf("%+v", list)
	}
}

// A call whose name could not be read is told of nevertheless.
func TestCallWithoutName(t *testing.T) {
	for _, c := range []func(c *wire.Calls){
		func(c *wire.Calls) { c.At(1).ID = "a" },
		func(c *wire.Calls) { c.Append(c.At(1), []byte("{}")) },
	} {
		for _, keep := range []int{0, 10} {
			calls := wire.Calls{Keep: keep}
			if c(&calls); len(calls.List()) != 1 {
				t.Errorf("%+v", calls.List())
			}
		}
	}
}

// A reply that does not tell of all calls says so.
func TestTooManyCalls(t *testing.T) {
	c := wire.Calls{}
	for i := range 600 {
		c.At(i).Name = strconv.Itoa(i)
	}
	list := c.List()
	if last := list[len(list)-1]; len(list) != 513 || last.Name != "too_many_tool_calls" || !last.Done || !last.Truncated {
		t.Errorf("%d calls, the last %+v", len(list), last)
	}
}
