package zmq

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"
)

// KeyPair is a CURVE key pair, both in Z85. Secret is empty where only the
// public half is known. It prints as its public half.
type KeyPair struct{ Public, Secret string }

// String keeps the secret out of whatever prints a pair.
func (k KeyPair) String() string { return k.Public }

// GoString does so for %#v.
func (k KeyPair) GoString() string { return k.Public }

// MarshalText does so for JSON and the like.
func (k KeyPair) MarshalText() ([]byte, error) { return []byte(k.Public), nil }

// HasCurve reports whether this libzmq can use keys at all.
func HasCurve() bool { return zmq4.HasCurve() }

// NewKeyPair makes one.
func NewKeyPair() (KeyPair, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("cannot make a key: %w", err)
	}
	return KeyPair{Public: z85Encode(key.PublicKey().Bytes()), Secret: z85Encode(key.Bytes())}, nil
}

// The files of keys are CZMQ's certificates, which pyzmq reads as well
// (zmq.auth.load_certificate).
const (
	secretHead = "#   A secret key of procnanny. Nobody else may read this file; never copy\n#   it: make another key for another place.\n"
	publicHead = "#   A public key of procnanny: no secret, give it to whoever needs it.\n"
)

// text is the content of a key file; a pair without a secret makes a public one.
func (k KeyPair) text(name string) string {
	var b strings.Builder
	if k.Secret == "" {
		b.WriteString(publicHead)
	} else {
		b.WriteString(secretHead)
	}
	if name != "" {
		fmt.Fprintf(&b, "metadata\n    name = \"%s\"\n", name)
	}
	fmt.Fprintf(&b, "curve\n    public-key = \"%s\"\n", k.Public)
	if k.Secret != "" {
		fmt.Fprintf(&b, "    secret-key = \"%s\"\n", k.Secret)
	}
	return b.String()
}

// Modes of key files.
const (
	secretMode = 0o600
	publicMode = 0o644
)

// WriteSecret writes a pair to a new file that only its owner can read. A file
// that exists is never touched.
func (k KeyPair) WriteSecret(path, name string) error {
	return writeNew(path, k.text(name), secretMode)
}

// WritePublic writes the public half to a new file.
func (k KeyPair) WritePublic(path, name string) error {
	return writeNew(path, KeyPair{Public: k.Public}.text(name), publicMode)
}

func writeNew(path, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return fmt.Errorf("cannot write the key %s: %w", path, err)
	}
	_, err = io.WriteString(f, text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("cannot write the key %s: %w", path, err)
	}
	return nil
}

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 64 << 10

// ReadKeyPair reads a pair with its secret from a file that only its owner, who
// is us or root, can read.
func ReadKeyPair(path string) (KeyPair, error) {
	k, st, err := readKeys(path)
	switch {
	case err != nil:
	case st.Mode&0o077 != 0:
		err = fmt.Errorf("others can reach it (mode %04o): chmod 600 it, and think of making another key", st.Mode&0o7777)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		err = fmt.Errorf("it belongs to uid %d", st.Uid)
	case k.Secret == "":
		err = errors.New("it holds no secret key")
	default:
		k, err = k.matched()
	}
	if err != nil {
		return KeyPair{}, fmt.Errorf("cannot use the key %s: %w", path, err)
	}
	return k, nil
}

// matched checks that the halves belong together; a missing public half is
// computed.
func (k KeyPair) matched() (KeyPair, error) {
	raw, err := z85Decode(k.Secret)
	if err != nil {
		return k, fmt.Errorf("its secret key cannot be read: %w", err)
	}
	secret, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return k, errors.New("its secret key cannot be used")
	}
	public := z85Encode(secret.PublicKey().Bytes())
	if k.Public != "" && k.Public != public {
		return k, errors.New("its secret key is not that of its public key")
	}
	k.Public = public
	return k, nil
}

// PublicKey is the key that text is, or that the file has which text names.
func PublicKey(text string) (string, error) {
	k, _, err := readKeys(text)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := z85Decode(text); e == nil {
			return text, nil
		}
		return "", fmt.Errorf("cannot use the key %q: it is no file, and no key of %d characters", text, keyText)
	}
	if err == nil && k.Public == "" {
		err = errors.New("it holds no public key")
	}
	if err == nil {
		_, err = z85Decode(k.Public)
	}
	if err != nil {
		return "", fmt.Errorf("cannot use the key %s: %w", text, err)
	}
	return k.Public, nil
}

// readKeys takes the two lines that count from a key file.
func readKeys(path string) (k KeyPair, st unix.Stat_t, err error) {
	raw, st, err := readRegular(path, maxKeyFile)
	if err != nil {
		return k, st, err
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.TrimSpace(name) {
		case "public-key":
			k.Public = value
		case "secret-key":
			k.Secret = value
		}
	}
	return k, st, nil
}

// readRegular reads a file that is one, whole, and does not wait for a pipe's
// writer.
func readRegular(path string, limit int64) (raw []byte, st unix.Stat_t, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, errors.New("it is not a regular file")
	}
	raw, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return raw, st, err
}
