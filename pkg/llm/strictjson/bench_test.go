package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"messages":[` + strings.Repeat(`{"role":"user","content":"`+strings.Repeat(`plain words and a \"quote\"\n`, 100)+`"},`, 300) + `{"role":"user"}]}`)
	b.Run("strictjson", func(b *testing.B) {
		var doc strictjson.Document
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if !doc.Parse(text, strictjson.Options{}) {
				b.Fatal(doc.Problems())
			}
		}
	})
	b.Run("encoding/json.Valid", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if !json.Valid(text) {
				b.Fatal()
			}
		}
	})
}
