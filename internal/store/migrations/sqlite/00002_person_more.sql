-- +goose Up
-- What else there is to say of a person, as JSON; '' for nothing.
ALTER TABLE people ADD COLUMN more TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE people DROP COLUMN more;
