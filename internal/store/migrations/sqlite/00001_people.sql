-- +goose Up
-- Times are microseconds since 1970 in UTC, NULL for none.

CREATE TABLE people (
    name      TEXT    NOT NULL PRIMARY KEY,
    kind      TEXT    NOT NULL,
    member_of TEXT    NOT NULL, -- JSON list of groups, '' for none
    disabled  INTEGER NOT NULL,
    starts    INTEGER,
    ends      INTEGER,
    created   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE passwords (
    person TEXT NOT NULL PRIMARY KEY REFERENCES people (name) ON DELETE CASCADE,
    hash   BLOB NOT NULL -- sealed
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id        TEXT    NOT NULL PRIMARY KEY,
    person    TEXT    NOT NULL REFERENCES people (name) ON DELETE CASCADE,
    label     TEXT    NOT NULL,
    type      TEXT    NOT NULL,
    algorithm TEXT    NOT NULL,
    digits    INTEGER NOT NULL,
    period    INTEGER NOT NULL,
    state     TEXT    NOT NULL,
    created   INTEGER,
    seed      BLOB    NOT NULL -- sealed
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_person ON tokens (person);

CREATE TABLE keys (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    person      TEXT NOT NULL REFERENCES people (name) ON DELETE CASCADE,
    type        TEXT NOT NULL,
    wire        BLOB NOT NULL,
    comment     TEXT NOT NULL,
    created     INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_person ON keys (person);

-- One row: every change in a journal record below next is in the tables above.
CREATE TABLE applied (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    next INTEGER NOT NULL
) STRICT;

INSERT INTO applied (id, next) VALUES (1, 0);

-- +goose Down
DROP TABLE applied;
DROP TABLE keys;
DROP TABLE tokens;
DROP TABLE passwords;
DROP TABLE people;
