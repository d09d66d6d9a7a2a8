-- +goose Up
-- Hardware tokens that belong to nobody yet.

CREATE TABLE stock (
    serial    TEXT    NOT NULL PRIMARY KEY,
    maker     TEXT    NOT NULL,
    model     TEXT    NOT NULL,
    type      TEXT    NOT NULL,
    algorithm TEXT    NOT NULL,
    digits    INTEGER NOT NULL,
    period    INTEGER NOT NULL,
    counter   INTEGER NOT NULL,
    drift     INTEGER NOT NULL,
    starts    INTEGER,
    ends      INTEGER,
    wish      TEXT    NOT NULL,
    imported  INTEGER,
    batch     TEXT    NOT NULL,
    seed      BLOB    NOT NULL -- sealed
) STRICT, WITHOUT ROWID;

-- What a token that somebody has keeps of that.
ALTER TABLE tokens ADD COLUMN serial TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN maker TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN starts INTEGER;
ALTER TABLE tokens ADD COLUMN ends INTEGER;

CREATE INDEX tokens_serial ON tokens (serial) WHERE serial <> '';

-- +goose Down
DROP INDEX tokens_serial;
ALTER TABLE tokens DROP COLUMN ends;
ALTER TABLE tokens DROP COLUMN starts;
ALTER TABLE tokens DROP COLUMN maker;
ALTER TABLE tokens DROP COLUMN serial;
DROP TABLE stock;
