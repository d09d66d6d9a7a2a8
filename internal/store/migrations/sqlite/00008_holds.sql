-- +goose Up
-- Legal holds: what retention may not erase. One that is over stays.

CREATE TABLE holds (
    id   TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE holds;
