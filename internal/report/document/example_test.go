package document_test

import (
	"os"

	"sallyport/internal/report/document"
)

// A table as programs take it. The second name would be a formula to a spreadsheet, and the third would turn the line around.
func ExampleDocument_CSVTable() {
	t := &document.Table{Columns: []document.Column{{Key: "person", Title: "Person"}, {Key: "logins", Title: "Logins", Right: true}}}
	t.Add(document.Plain, "alice", "12")
	t.Add(document.Plain, "=HYPERLINK(A1)", "3")
	t.Add(document.Plain, "bob\u202eecila", "0")
	d := &document.Document{Kind: "example", Sections: []document.Section{{ID: "people", Title: "People", Basis: document.Log, Table: t}}}
	if err := d.CSVTable(os.Stdout, "people"); err != nil {
		panic(err)
	}
	// Output:
	// person,logins
	// alice,12
	// '=HYPERLINK(A1),3
	// bob\u{202e}ecila,0
}
