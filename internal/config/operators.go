package config

import (
	"strings"

	"sallyport/internal/config/strict"
)

// Operators are who may run the gateway beside root and the user whom it runs as, and what each may do.
type Operators struct {
	Socket   string // where they reach the gateway: its data folder is not theirs; empty: they don't
	FourEyes bool   // who approves an exception or a grant is another than who asked for it
	People   []Operator
}

// Operator is one of them: an operating-system user or everybody in a group of them.
type Operator struct {
	Pos    `key:"-"`
	Name   string // "user jsmith", "group dba"
	User   string
	Group  string
	Person string // who that is at the gateway; empty: nobody
	Role   string // admin, help-desk, auditor
}

func operators(b *strict.Block) Operators {
	defer b.End()
	o := Operators{Socket: b.Path("socket", ""), FourEyes: b.Truth("four_eyes", false)}
	seen := map[string]int{}
	for _, in := range b.Items("people") {
		op := Operator{Pos: in.Pos, User: in.Printable("user", "", 64), Group: in.Printable("group", "", 64), Person: in.Printable("person", "", 64)}
		op.Role = strict.Word(in, "role", "", "admin", "help-desk", "auditor")
		in.Require("role")
		switch {
		case (op.User == "") == (op.Group == ""):
			in.Bad("user", "user: jsmith, or group: dba", "one of user and group is to be given")
		case op.Group != "" && op.Person != "":
			in.Bad("person", "list its users one by one", "a group of users is not one person")
		}
		if op.Person != strings.ToLower(op.Person) {
			in.Bad("person", "people's names are lower-case", "%s is nobody's name at the gateway", strict.Show(op.Person))
		}
		key := "user " + op.User
		if op.Group != "" {
			key = "group " + op.Group
		}
		if line, taken := seen[key]; taken {
			in.Bad("user", "one role each", "%s is listed in line %d already", key, line)
		}
		seen[key], op.Name = op.Line, key
		in.End()
		o.People = append(o.People, op)
	}
	if len(o.People) > 0 && o.Socket == "" {
		b.Reader.Warn(b.At("people"), "operators: {socket: /run/sallyport/operators.sock}", "without a socket of their own they cannot reach the gateway: its data folder is not theirs")
	}
	return o
}
