package rpc

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// hidden stands for a value of env.
const hidden = "***"

// secrets are the keys in hooks whose values are hidden: a url often has a token
// in it.
var secrets = map[string]bool{"env": true, "headers": true, "url": true}

// hasHooks reports whether a field is, or may hold, something about hooks.
func hasHooks(field string) bool {
	top, _, _ := strings.Cut(field, ".")
	return top == "on" || top == "stop"
}

// redactHooks hides what is secret in a value below the keys of path.
func redactHooks(path []string, value json.RawMessage) json.RawMessage {
	if slices.ContainsFunc(path, func(key string) bool { return secrets[key] }) {
		return json.RawMessage(`"` + hidden + `"`)
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	out, err := json.Marshal(hideSecrets(v))
	if err != nil {
		return nil
	}
	return out
}

func hideSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "identity")
		for key := range v {
			if secrets[key] {
				v[key] = hidden
			} else {
				v[key] = hideSecrets(v[key])
			}
		}
	case []any:
		for i := range v {
			v[i] = hideSecrets(v[i])
		}
	}
	return v
}

// Redact is a field's JSON value without values of env, and without what is
// secret in hooks.
func Redact(field string, value json.RawMessage) json.RawMessage {
	switch {
	case len(value) == 0 || string(value) == "null":
		return value
	case strings.HasPrefix(field, "env."):
		return json.RawMessage(`"` + hidden + `"`)
	case field == "env":
		return redactMap(value)
	case hasHooks(field):
		return redactHooks(strings.Split(field, "."), value)
	case field != spec.FieldProgram:
		return value
	}
	var doc map[string]json.RawMessage
	if json.Unmarshal(value, &doc) != nil {
		return nil
	}
	delete(doc, "identity")
	if env, ok := doc["env"]; ok {
		doc["env"] = redactMap(env)
	}
	for _, key := range []string{"on", "stop"} {
		if v, ok := doc[key]; ok {
			doc[key] = redactHooks(nil, v)
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil
	}
	return out
}

// redactMap keeps the names. What is no map of names is hidden whole.
func redactMap(value json.RawMessage) json.RawMessage {
	var env map[string]json.RawMessage
	if json.Unmarshal(value, &env) != nil {
		return json.RawMessage(`"` + hidden + `"`)
	}
	for k := range env {
		env[k] = json.RawMessage(`"` + hidden + `"`)
	}
	out, err := json.Marshal(env)
	if err != nil {
		return nil
	}
	return out
}

// overrideMarks are the overrides of a program as status shows them: a created
// program is not repeated, it stands around them.
func overrideMarks(os []spec.Override) []Map {
	out := make([]Map, len(os))
	for i, o := range os {
		out[i] = overrideMap(o)[1:] // without the program's name
		if o.Field == spec.FieldProgram {
			for n, f := range out[i] {
				if f.Key == "value" {
					out[i][n].Value = nil
				}
			}
		}
	}
	return out
}

func overrideMap(o spec.Override) Map {
	m := Map{{"program", o.Program}}
	if o.Index != nil {
		m = append(m, Field{"instance", *o.Index})
	}
	m = append(m, Map{
		{"field", o.Field},
		{"value", Redact(o.Field, o.Value)},
		{"replaced", Redact(o.Field, o.Replaced)},
		{"by", requesterMap(&o.By)},
		{"at", o.At},
	}...)
	switch {
	case o.UntilBoot:
		m = append(m, Field{"until", "boot"})
	default:
		m = append(m, Field{"until", o.Until})
	}
	return append(m, Field{"reason", orNil(o.Reason)})
}

// requesterMap says who asked; nil is nobody, policy.
func requesterMap(r *spec.Requester) any {
	if r == nil {
		return nil
	}
	return RequesterMap(*r)
}

// RequesterMap is who asked, as replies and events say it: somebody on this
// machine, or the owner of a key.
func RequesterMap(r spec.Requester) Map {
	if r.Key != "" {
		return Map{{"how", r.How}, {"key", r.Key}}
	}
	return Map{{"how", r.How}, {"uid", r.UID}, {"gid", r.GID}, {"pid", r.PID}}
}
