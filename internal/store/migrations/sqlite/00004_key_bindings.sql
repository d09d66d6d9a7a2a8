-- +goose Up
-- What the key of a service identity is bound to, as JSON; '' for a key of anybody else.
ALTER TABLE keys ADD COLUMN bound TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE keys DROP COLUMN bound;
