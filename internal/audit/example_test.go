package audit_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"sallyport/internal/audit"
)

// publicKey is what the auditor was given long ago.
const publicKey = "gw1.test/sallyport+9bcf8371+AXQ0X/VcNpYhQKOvQQRnGtURAw4jPHjD3D6i4c9jQgAr"

func ExampleVerifyExport() {
	verifier, err := note.NewVerifier(publicKey)
	if err != nil {
		log.Fatal(err)
	}
	file, err := os.Open("testdata/export.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	report, err := audit.VerifyExport(file, verifier, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Size, "records, erased", report.ErasedRanges, "root", report.Root)
	// Output: 5 records, erased [{1 1}] root HJo5bSSZdh7illPN/zNOOECp8jbhtdrZOOVdcOl1y9U=
}

// The same with nothing but the standard library and the package comment.
func Example_outsideVerifier() {
	file, err := os.Open("testdata/export.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()

	var leaves [][]byte
	var checkpoint string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 70_000)
	for lines.Scan() {
		var line struct {
			Leaf, Salt, Erased, Checkpoint string
			Record                         json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			log.Fatal(err)
		}
		switch {
		case line.Checkpoint != "":
			checkpoint = line.Checkpoint
		case line.Erased != "":
			leaf, _ := hex.DecodeString(line.Erased)
			leaves = append(leaves, leaf)
		default:
			salt, _ := hex.DecodeString(line.Salt)
			leaf := sha256.Sum256(append(salt, line.Record...))
			if hex.EncodeToString(leaf[:]) != line.Leaf {
				log.Fatalf("record %d was changed", len(leaves))
			}
			leaves = append(leaves, leaf[:])
		}
	}

	text, signature, _ := strings.Cut(checkpoint, "\n\n")
	head := strings.Split(text, "\n")
	fmt.Println("origin:", head[0])
	fmt.Println("size is right:", head[1] == fmt.Sprint(len(leaves)))
	fmt.Println("root is right:", head[2] == base64.StdEncoding.EncodeToString(merkleRoot(leaves)))

	key, _ := base64.StdEncoding.DecodeString(publicKey[strings.LastIndex(publicKey, "+")+1:])
	sig, _ := base64.StdEncoding.DecodeString(strings.Fields(signature)[2])
	fmt.Println("signature is right:", ed25519.Verify(key[1:], []byte(text+"\n"), sig[4:]))
	// Output:
	// origin: gw1.test/sallyport
	// size is right: true
	// root is right: true
	// signature is right: true
}

// merkleRoot is RFC 6962 section 2.1, word for word.
func merkleRoot(leaves [][]byte) []byte {
	var parts [][]byte
	switch n := len(leaves); n {
	case 0:
	case 1:
		parts = [][]byte{{0}, leaves[0]}
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		parts = [][]byte{{1}, merkleRoot(leaves[:k]), merkleRoot(leaves[k:])}
	}
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return sum[:]
}
