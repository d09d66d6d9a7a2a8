// Package document is what a report is made of, and how it looks: sections of text, figures, tables, charts and a block to sign,
// written as HTML, CSV, JSON, PDF or text for a terminal. No report writes any of these by itself, so that a name that means harm
// is made harmless in one place: see Clean.
//
// All writers give the same bytes for the same document. JSON is the form in which a document is kept; Parse has it back, and the
// other forms can be made of it again.
package document
