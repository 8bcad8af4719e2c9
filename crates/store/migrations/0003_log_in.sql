-- Roles, blocked accounts, and what people log in to the website with. Of every secret there is a hash here and nothing
-- else: of those that a person chose argon2id, of those that are random SHA-256 in hexadecimal digits.

ALTER TABLE accounts ADD COLUMN role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'operator'));
-- Nobody gets in with anything of a blocked account.
ALTER TABLE accounts ADD COLUMN blocked_at BIGINT;

-- An installation has an operator: its first account. Where there are accounts already, the oldest.
UPDATE accounts SET role = 'operator'
WHERE name = (SELECT name FROM accounts WHERE removed_at IS NULL ORDER BY created_at, name LIMIT 1);
-- How many accounts there ever were. Raising it is the lock that keeps two first ones apart.
INSERT INTO id_counters (name, used) SELECT 'accounts', COUNT(*) FROM accounts;
INSERT INTO id_counters (name, used) VALUES ('login_sessions', 0), ('links', 0);

CREATE TABLE passwords (
    account TEXT   NOT NULL PRIMARY KEY REFERENCES accounts (name),
    -- A PHC string.
    hash    TEXT   NOT NULL CHECK (hash LIKE '$argon2id$%'),
    set_at  BIGINT NOT NULL
);

-- Rows go when the session ends.
CREATE TABLE login_sessions (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account     TEXT   NOT NULL REFERENCES accounts (name),
    cookie_hash TEXT   NOT NULL UNIQUE CHECK (length(cookie_hash) = 64),
    way         TEXT   NOT NULL CHECK (way IN ('password', 'link', 'invitation', 'passkey', 'oidc')),
    created_at  BIGINT NOT NULL,
    -- When its holder last proved who they are.
    proved_at   BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    address     TEXT   NOT NULL CHECK (address <> ''),
    user_agent  TEXT   NOT NULL CHECK (length(user_agent) <= 300)
);
CREATE INDEX login_sessions_by_account ON login_sessions (account);

-- Links that work once: rows go when they are used.
CREATE TABLE links (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    token_hash  TEXT   NOT NULL UNIQUE CHECK (length(token_hash) = 64),
    purpose     TEXT   NOT NULL CHECK (purpose IN ('log_in', 'reset', 'invitation')),
    -- Whom it lets in.
    account     TEXT   REFERENCES accounts (name),
    -- What an invited account gets. Without a name, its owner chooses one.
    preset_name TEXT,
    role        TEXT   CHECK (role IN ('member', 'operator')),
    -- Whom it was made for, in the words of who made it.
    note        TEXT   CHECK (length(note) <= 200),
    -- Nobody where it was made on the host itself.
    made_by     TEXT   REFERENCES accounts (name),
    made_at     BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    CHECK (expires_at > made_at),
    CHECK ((purpose = 'invitation') = (account IS NULL)),
    CHECK ((purpose = 'invitation') = (role IS NOT NULL)),
    CHECK ((purpose = 'invitation') = (note IS NOT NULL)),
    CHECK (preset_name IS NULL OR purpose = 'invitation')
);
CREATE INDEX links_by_account ON links (account);
CREATE INDEX links_by_maker ON links (made_by);
