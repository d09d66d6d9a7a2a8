-- +goose Up
-- What is known of SSH targets. Their names are kept in lower case; the targets themselves are in the configuration.

CREATE TABLE host_keys (
    target      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    type        TEXT NOT NULL, -- '' where only the fingerprint is known
    wire        BLOB NOT NULL,
    state       TEXT NOT NULL,
    first_seen  INTEGER,
    changed     INTEGER,
    changed_by  TEXT NOT NULL,
    PRIMARY KEY (target, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
    target      TEXT NOT NULL,
    account     TEXT NOT NULL, -- '' for accounts without one of their own
    kind        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    comment     TEXT NOT NULL,
    created     INTEGER,
    secret      BLOB NOT NULL, -- sealed
    PRIMARY KEY (target, account)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE credentials;
DROP TABLE host_keys;
