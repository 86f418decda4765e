package detectortest

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Unzipped is an encoded model as version 3 of the encoding has it, which was not zipped and knew neither likeness to labelled attacks nor a ceiling of the threshold; nil where it has one of
// these or is no model.
func Unzipped(model []byte) []byte {
	if len(model) < 10 {
		return nil
	}
	at := 6 + int(model[5]) // magic, version and schema
	for range 6 {
		_, n := binary.Uvarint(model[at:])
		at += n
	}
	body, err := io.ReadAll(flate.NewReader(bytes.NewReader(model[at : len(model)-4])))
	if err != nil {
		return nil
	}
	const later = 1 + 8 // no likeness, no ceiling
	if len(body) < later || !bytes.Equal(body[len(body)-later:], make([]byte, later)) {
		return nil
	}
	old := append(bytes.Clone(model[:at]), body[:len(body)-later]...)
	old[4] = 3
	return binary.LittleEndian.AppendUint32(old, crc32.Checksum(old, crc32.MakeTable(crc32.Castagnoli)))
}
