package features

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
)

// english is the vocabulary of the benchmarks' prose, the frequent words first.
var english = strings.Fields(`the of and to a in that is was for it with as on be at by this had not are but from or have an they which one you were all her she there
	would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like
	my now over such our man me even most made after also did many off before must well back through years much where your way down should because long each just state those
	people too mr how little good world make very year still see own work men day get here old life both between being under three never know same last another while us might
	great go come since against right came take used himself few house use place during high without again home around small however found mrs part school thought went say
	general once upon war every left fact though united less public put think almost hand enough far took head yet government system set better nothing night end called
	find going look asked later point knew next city program business give group toward days young let room president side social given present several order national
	second possible rather per face among form important often things looked early white case large need big four within felt along children saw best church ever least
	power development light thing seemed family interest want members others mind country area done turned although open god service certain kind problem began different
	door thus help sense means whole matter customer invoice shipment delivery reservation apartment temperature pressure laboratory maintenance schedule appointment
	insurance agreement department Thursday February regarding unfortunately approximately information available account transaction statement received confirmed
	pump valve gauge filter motor bearing sensor cable ticket annex pallet warehouse crate forklift dock ledger voucher receipt tariff customs freight carrier`)

// writer writes texts such as tools return.
type writer struct {
	strings.Builder
	*rand.Rand
}

func (w *writer) word() string {
	u := w.Float64()
	return english[int(u*u*u*float64(len(english)))]
}

func (w *writer) sentence(newline string) {
	for i := range 5 + w.IntN(16) {
		word := w.word()
		if i == 0 {
			word = strings.ToUpper(word[:1]) + word[1:]
		}
		switch w.IntN(14) {
		case 0:
			word += ","
		case 1:
			word = strconv.Itoa(w.IntN(5000))
		case 2:
			word = "(" + word + ")"
		}
		if i > 0 {
			w.WriteByte(' ')
		}
		w.WriteString(word)
	}
	w.WriteString([]string{". ", ". ", ". ", "? ", "." + newline}[w.IntN(5)])
}

func (w *writer) record() {
	fmt.Fprintf(w, `{"id":"%s-%d","customer":"%s %s","status":"%s","amount":%d.%02d,"due":"2026-%02d-%02dT%02d:%02d:00Z","tags":["%s","%s"],"url":"https://%s.example.com/%s/%x"},`,
		w.word(), w.IntN(99999), w.word(), w.word(), w.word(), w.IntN(9999), w.IntN(100), 1+w.IntN(12), 1+w.IntN(28), w.IntN(24), w.IntN(60), w.word(), w.word(), w.word(), w.word(), w.Uint32())
}

func (w *writer) row(newline string) {
	for range 6 {
		fmt.Fprintf(w, "%d.%d\t", w.IntN(1000), w.IntN(1000))
	}
	w.WriteString(newline)
}

// result returns a result of a tool of this many bytes: a quarter prose, a quarter prose in a string of JSON, two fifths records, the rest tables of numbers.
func result(seed uint64, bytes int) []byte {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 1))}
	for w.Len() < bytes {
		kind := w.IntN(20)
		if kind >= 5 && kind < 10 {
			w.WriteString(`{"body":"`)
		}
		for range 2 + w.IntN(5) {
			switch {
			case kind < 5:
				w.sentence("\n")
			case kind < 10:
				w.sentence(`\n`)
			case kind < 18:
				w.record()
			default:
				w.row("\n")
			}
		}
		if kind >= 5 && kind < 10 {
			w.WriteString(`","lang":"en"}`)
		}
		w.WriteByte('\n')
	}
	return []byte(w.String()[:bytes])
}

// BenchmarkRealistic extracts the features of calls that bring a tool's result, against a baseline that was learned from others like them and with evidence written.
// The calls take turns, so that the processor does not come to know the branches of one text by heart.
func BenchmarkRealistic(b *testing.B) {
	const salt = 7
	baseline := NewBaseline()
	var v Vector
	var ev Evidence
	for seed := range uint64(100) {
		call, turn := conversation(string(result(1000+seed, 10<<10)))
		Extract(&v, &ev, call, turn, &Context{Salt: salt, Now: epoch})
		baseline.Learn(&ev)
	}
	for _, size := range []int{100, 1 << 10, 2 << 10, 10 << 10, 100 << 10, 900 << 10} {
		b.Run(fmt.Sprintf("delta=%d", size), func(b *testing.B) {
			calls := make([]*llm.Call, max(2, min(64, 2<<20/size)))
			turns := make([]*Turn, len(calls))
			for i := range calls {
				calls[i], turns[i] = conversation(string(result(uint64(i), size)))
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			cx := Context{Salt: salt, Baseline: baseline, Destination: "api.example.com:443", Credential: []byte("sk-of-the-caller"), Now: epoch}
			i := 0
			for b.Loop() {
				Extract(&v, &ev, calls[i%len(calls)], turns[i%len(calls)], &cx)
				i++
			}
		})
	}
}
