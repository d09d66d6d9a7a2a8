-- +goose Up
-- How far readers of the log are that keep what they make of it elsewhere: receivers of records, the alerts.
CREATE TABLE cursors (
    name TEXT    NOT NULL PRIMARY KEY,
    next INTEGER NOT NULL -- the first record that is not taken
) STRICT, WITHOUT ROWID;

-- What follows from the log alone, and can be made from it again.
CREATE TABLE alerts (
    id   TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

-- Whether somebody was told of an alert.
CREATE TABLE deliveries (
    alert       TEXT NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    body        TEXT NOT NULL, -- JSON
    PRIMARY KEY (alert, destination)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE deliveries;
DROP TABLE alerts;
DROP TABLE cursors;
