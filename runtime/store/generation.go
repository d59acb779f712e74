package store

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"

	"github.com/procnanny/procnanny/spec"
)

const maxSpecBytes = 1 << 30 // of one generation, unpacked

// light is g as lists show it.
func light(g Generation) Generation {
	g.Spec, g.Shared, g.Source, g.Defined = spec.Spec{}, nil, spec.Source{}, nil
	return g
}

// encodeGeneration packs it: twenty times a thousand programs would be much.
func encodeGeneration(g Generation) ([]byte, error) {
	var buf bytes.Buffer
	z, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err := json.NewEncoder(z).Encode(g); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return seal(buf.Bytes()), nil
}

// opened is what encodeGeneration packed.
func opened(v []byte) (*gzip.Reader, error) {
	raw, err := unseal(v)
	if err != nil {
		return nil, err
	}
	return gzip.NewReader(bytes.NewReader(raw))
}

func decodeGeneration(v []byte) (g Generation, err error) {
	z, err := opened(v)
	if err != nil {
		return g, err
	}
	err = json.NewDecoder(io.LimitReader(z, maxSpecBytes)).Decode(&g)
	return g, err
}

// decodeLight is light of what decodeGeneration gives, without unpacking more of
// it than its head: a control that starts reads all that are kept, and twenty
// times a thousand programs would take half a second. The seal is over all of it.
func decodeLight(v []byte) (g Generation, err error) {
	z, err := opened(v)
	if err != nil {
		return g, err
	}
	ok, err := readHead(json.NewDecoder(z), &g)
	if err != nil || ok {
		return g, err
	}
	g, err = decodeGeneration(v)
	return light(g), err
}

// readHead reads the fields that lists show. They are written first; not ok is
// that another comes before the last of them, as another version may write it.
func readHead(dec *json.Decoder, g *Generation) (ok bool, err error) {
	fields := map[string]any{
		"Number": &g.Number, "Digest": &g.Digest, "Commit": &g.Commit, "At": &g.At, "By": &g.By,
		"Programs": &g.Programs, "Instances": &g.Instances,
	}
	if _, err := dec.Token(); err != nil { // the brace
		return false, err
	}
	for len(fields) > 0 && dec.More() {
		key, err := dec.Token()
		if err != nil {
			return false, err
		}
		name, _ := key.(string)
		field, known := fields[name]
		if !known {
			return false, nil
		}
		if err := dec.Decode(field); err != nil {
			return false, err
		}
		delete(fields, name)
	}
	return len(fields) == 0, nil
}
