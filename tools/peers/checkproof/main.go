// Command checkproof verifies a proof of one record with the code of others: filippo.io/torchwood, encoding/json and
// SHA-256, by what the package documentation of internal/audit says, and with nothing of ours.
//
//	checkproof LOGKEY [WITNESSKEY]... < FILE.tlog-proof
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := check(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "checkproof:", err)
		os.Exit(1)
	}
}

func check(keys []string, in io.Reader) error {
	if len(keys) == 0 {
		return fmt.Errorf("want the log's key, and those of witnesses")
	}
	proof, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	log, err := note.NewVerifier(keys[0])
	if err != nil {
		return err
	}
	all := []torchwood.Policy{torchwood.OriginPolicy(log.Name()), torchwood.SingleVerifierPolicy(log)}
	for _, key := range keys[1:] {
		w, err := torchwood.NewCosignatureVerifier(key)
		if err != nil {
			return err
		}
		all = append(all, torchwood.SingleVerifierPolicy(w))
	}
	extra, err := torchwood.ProofExtraData(proof)
	if err != nil {
		return err
	}
	var line struct {
		Salt   string
		Record json.RawMessage
	}
	if err := json.Unmarshal(extra, &line); err != nil {
		return err
	}
	salt, err := hex.DecodeString(line.Salt)
	if err != nil {
		return err
	}
	leaf := sha256.Sum256(append(salt, line.Record...))
	if err := torchwood.VerifyProof(torchwood.ThresholdPolicy(len(all), all...), tlog.RecordHash(leaf[:]), proof); err != nil {
		return err
	}
	fmt.Printf("%s\n", line.Record)
	return nil
}
