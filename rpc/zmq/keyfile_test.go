package zmq

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

func TestZ85(t *testing.T) {
	// The example of the specification.
	if got := z85Encode([]byte{0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B}); got != "HelloWorld" {
		t.Errorf("got %s", got)
	}
	for range 100 {
		k := newKey(t)
		raw, err := z85Decode(k.Secret)
		if err != nil || len(raw) != keyBytes || z85Encode(raw) != k.Secret {
			t.Errorf("%v does not come back: %v", k, err)
		}
		if public, err := zmq4.AuthCurvePublic(k.Secret); err != nil || public != k.Public { // as libzmq computes it
			t.Errorf("libzmq says %s, %v", public, err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("0", 39), strings.Repeat("0", 41), strings.Repeat("0", 39) + "~", strings.Repeat("#", 40)} {
		if _, err := z85Decode(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestSecretsArePrintedNowhere: a pair prints as its public half, whatever
// prints it.
func TestSecretsArePrintedNowhere(t *testing.T) {
	k := newKey(t)
	asJSON, err := json.Marshal(map[string]any{"key": k, "keys": &ClientKeys{Own: k}})
	if err != nil {
		t.Fatal(err)
	}
	var back any // without JSON's escapes
	if err := json.Unmarshal(asJSON, &back); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s", k, k, k), fmt.Sprintf("%+v", ClientKeys{Own: k}), fmt.Sprint(back)} {
		if strings.Contains(text, k.Secret) || !strings.Contains(text, k.Public) {
			t.Errorf("it prints as %s", text)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	k, other := newKey(t), newKey(t)
	path := filepath.Join(dir, "a.key")
	if err := k.WriteSecret(path, "alice"); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadKeyPair(path); err != nil || got.Secret != k.Secret || got.Public != k.Public {
		t.Errorf("got %v, %v", got, err)
	}
	if err := other.WriteSecret(path, ""); err == nil {
		t.Error("a key was replaced")
	}
	if err := os.Symlink(filepath.Join(dir, "b.key"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := other.WriteSecret(filepath.Join(dir, "link"), ""); err == nil {
		t.Error("a link was followed")
	}
	if err := k.WritePublic(path+".pub", "alice"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{path, path + ".pub", k.Public} {
		if got, err := PublicKey(text); err != nil || got != k.Public {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for name, text := range map[string]string{
		"mixed": "public-key = \"" + other.Public + "\"\nsecret-key = \"" + k.Secret + "\"\n", "cut": "secret-key = \"" + k.Secret[:20] + "\"\n", "empty": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyPair(filepath.Join(dir, name)); err == nil || strings.Contains(err.Error(), k.Secret[:20]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzAllowed: whatever the list says, each key that is let in stands in it as a
// whole word after a role.
func FuzzAllowed(f *testing.F) {
	key := strings.Repeat("abcde", 8)
	for _, seed := range []string{"", "admin " + key, "read\t" + key + "  a name", "# x\nadmin " + key + "\nread " + key, "admin " + key + key, "admin\u00a0" + key, "root " + key, "admin " + key + " \x1b[2J", "\xef\xbb\xbfadmin " + key} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := parseAllow(text)
		for key, a := range list {
			if _, err := z85Decode(key); err != nil || a.role != rpc.AccessAdmin && a.role != rpc.AccessRead || !strings.Contains(text, key) || len(a.name) > maxName {
				t.Errorf("%q lets %q in as %+v", text, key, a)
			}
			if a.role == rpc.AccessAdmin && !strings.Contains(text, "admin") {
				t.Errorf("%q makes %q an administrator", text, key)
			}
		}
	})
}

// FuzzZ85: what is decoded is what is encoded.
func FuzzZ85(f *testing.F) {
	f.Add(strings.Repeat("0", keyText))
	f.Add(strings.Repeat("#", keyText))
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := z85Decode(text)
		if err == nil && z85Encode(raw) != text {
			t.Errorf("%q comes back as %q", text, z85Encode(raw))
		}
	})
}
