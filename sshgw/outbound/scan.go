package outbound

import (
	"context"
	"errors"

	"golang.org/x/crypto/ssh"
)

// Scan connects to a target without logging in, once for each type of host key, and returns the keys that it has proved to
// have. User, HostKeys and Credential of the target are not used.
func Scan(ctx context.Context, t Target, o Options) ([]ssh.PublicKey, error) {
	t.HostKeys, t.Credential = HostKeys{}, NewPassword("")
	var keys []ssh.PublicKey
	var without []string
	for len(t.HostKeys.order(t.Algorithms.filled().lists[kindHostKey], without)) > 0 {
		conn, err := connect(ctx, t, o)
		if err != nil {
			return keys, err
		}
		_, _, err = handshake(ctx, conn, t, o, without)
		var unknown *UnknownHostKey
		if !errors.As(err, &unknown) {
			if none := (*NoCommonAlgorithm)(nil); len(keys) > 0 && errors.As(err, &none) {
				return keys, nil
			}
			return keys, err
		}
		keys = append(keys, unknown.Key)
		without = append(without, unknown.Key.Type())
	}
	return keys, nil
}
