package store

// The queries, in the subset that SQLite and PostgreSQL share.
const (
	sqlApplied    = `SELECT next FROM applied WHERE id = 1`
	sqlSetApplied = `UPDATE applied SET next = $1 WHERE id = 1`

	sqlHasPerson = `SELECT count(*) FROM people WHERE name = $1`
	sqlPutPerson = `INSERT INTO people (name, kind, member_of, disabled, starts, ends, created, more)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, member_of = excluded.member_of,
			disabled = excluded.disabled, starts = excluded.starts, ends = excluded.ends, created = excluded.created,
			more = excluded.more`
	sqlPutPassword = `INSERT INTO passwords (person, hash) VALUES ($1, $2)
		ON CONFLICT (person) DO UPDATE SET hash = excluded.hash`
	sqlPutToken = `INSERT INTO tokens (id, person, label, type, algorithm, digits, period, state, created, seed, serial, maker, starts, ends)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (id) DO UPDATE SET person = excluded.person, label = excluded.label, type = excluded.type,
			algorithm = excluded.algorithm, digits = excluded.digits, period = excluded.period,
			state = excluded.state, created = excluded.created, seed = excluded.seed, serial = excluded.serial,
			maker = excluded.maker, starts = excluded.starts, ends = excluded.ends`
	sqlPutKey = `INSERT INTO keys (fingerprint, person, type, wire, comment, created, bound)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (fingerprint) DO UPDATE SET person = excluded.person, type = excluded.type,
			wire = excluded.wire, comment = excluded.comment, created = excluded.created, bound = excluded.bound`
	sqlDeletePerson = `DELETE FROM people WHERE name = $1`
	sqlDeleteToken  = `DELETE FROM tokens WHERE id = $1`
	sqlDeleteKey    = `DELETE FROM keys WHERE fingerprint = $1`

	sqlPutHostKey = `INSERT INTO host_keys (target, fingerprint, type, wire, state, first_seen, changed, changed_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (target, fingerprint) DO UPDATE SET type = excluded.type, wire = excluded.wire,
			state = excluded.state, first_seen = excluded.first_seen, changed = excluded.changed,
			changed_by = excluded.changed_by`
	sqlPutCredential = `INSERT INTO credentials (target, account, kind, fingerprint, comment, created, secret)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (target, account) DO UPDATE SET kind = excluded.kind, fingerprint = excluded.fingerprint,
			comment = excluded.comment, created = excluded.created, secret = excluded.secret`
	sqlDeleteHostKey    = `DELETE FROM host_keys WHERE target = $1 AND fingerprint = $2`
	sqlDeleteCredential = `DELETE FROM credentials WHERE target = $1 AND account = $2`

	personColumns   = `SELECT name, kind, member_of, disabled, starts, ends, created, more FROM people `
	sqlPeople       = personColumns + `ORDER BY name`
	sqlPerson       = personColumns + `WHERE name = $1`
	sqlPassword     = `SELECT hash FROM passwords WHERE person = $1`
	sqlWithPassword = `SELECT person FROM passwords`

	tokenColumns = `SELECT id, person, label, type, algorithm, digits, period, state, created, serial, maker, starts, ends, seed FROM tokens `
	sqlTokens    = tokenColumns + `ORDER BY id`
	sqlTokensOf  = tokenColumns + `WHERE person = $1 ORDER BY created, id`

	keyColumns = `SELECT fingerprint, person, type, wire, comment, created, bound FROM keys `
	sqlKeys    = keyColumns + `ORDER BY fingerprint`
	sqlKeysOf  = keyColumns + `WHERE person = $1 ORDER BY created, fingerprint`

	sqlHostKeys = `SELECT target, fingerprint, type, wire, state, first_seen, changed, changed_by FROM host_keys
		ORDER BY target, first_seen, fingerprint`
	credentialColumns = `SELECT target, account, kind, fingerprint, comment, created, secret FROM credentials `
	sqlCredentials    = credentialColumns + `ORDER BY target, account`

	// A few rows at a time, for sealing again with a newer key.
	sqlSomeTokens      = tokenColumns + `WHERE id > $1 ORDER BY id LIMIT $2`
	sqlSomePasswords   = `SELECT person, hash FROM passwords WHERE person > $1 ORDER BY person LIMIT $2`
	sqlSomeCredentials = credentialColumns + `WHERE target || ' ' || account > $1 ORDER BY target || ' ' || account LIMIT $2`
	sqlSetCredential   = `UPDATE credentials SET secret = $1 WHERE target = $2 AND account = $3`
	sqlSetTokenSeed    = `UPDATE tokens SET seed = $1 WHERE id = $2`
	sqlSetPasswordHash = `UPDATE passwords SET hash = $1 WHERE person = $2`
)
