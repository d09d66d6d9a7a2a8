-- +goose Up
-- Enrolment tickets. The text of a ticket is nowhere: its body has a SHA-256.

CREATE TABLE tickets (
    id     TEXT    NOT NULL PRIMARY KEY,
    person TEXT    NOT NULL REFERENCES people (name) ON DELETE CASCADE,
    state  TEXT    NOT NULL, -- open, used, revoked
    ends   INTEGER,
    body   BLOB    NOT NULL  -- sealed JSON: who could write a ticket here could enrol a device for anybody whose password he knows
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_person ON tickets (person);

-- +goose Down
DROP TABLE tickets;
