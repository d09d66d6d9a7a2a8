-- +goose Up
-- The exception register: every version of every entry, none of which is ever changed or removed.

CREATE TABLE exceptions (
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    changed INTEGER NOT NULL, -- when the version began to hold
    body    TEXT    NOT NULL, -- JSON
    PRIMARY KEY (id, version)
) STRICT, WITHOUT ROWID;

-- Grants outlive their person: what somebody was let into is asked for after he has gone.
CREATE TABLE grants (
    id     TEXT    NOT NULL PRIMARY KEY,
    person TEXT    NOT NULL,
    starts INTEGER,
    ends   INTEGER,
    body   TEXT    NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_person ON grants (person);

-- Who said when that whose access is right.
CREATE TABLE attestations (
    person   TEXT    NOT NULL,
    rule     TEXT    NOT NULL,
    made     INTEGER NOT NULL,
    made_by  TEXT    NOT NULL,
    decision TEXT    NOT NULL,
    note     TEXT    NOT NULL,
    PRIMARY KEY (person, rule, made)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE attestations;
DROP TABLE grants;
DROP TABLE exceptions;
