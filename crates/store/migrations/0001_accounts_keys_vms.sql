-- Accounts, teams, keys and VMs. Only what SQLite and PostgreSQL both take: so no STRICT (it knows no BIGINT) and no
-- AUTOINCREMENT. Times are milliseconds since 1970-01-01 UTC, sizes are bytes.

-- Accounts and teams share one namespace. Rows are never deleted: a name never changes hands.
CREATE TABLE names (
    name TEXT   NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 2 AND 32 AND name = lower(name)),
    kind TEXT   NOT NULL CHECK (kind IN ('account', 'team')),
    UNIQUE (name, kind)
);

CREATE TABLE teams (
    name TEXT   NOT NULL PRIMARY KEY,
    kind TEXT   NOT NULL DEFAULT 'team' CHECK (kind = 'team'),
    FOREIGN KEY (name, kind) REFERENCES names (name, kind)
);

CREATE TABLE accounts (
    name       TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL DEFAULT 'account' CHECK (kind = 'account'),
    created_at BIGINT NOT NULL,
    removed_at BIGINT,
    -- Counts additions to the account. Raising it is the lock that keeps two of them, or one and a removal, apart.
    generation BIGINT NOT NULL DEFAULT 0 CHECK (generation >= 0),
    FOREIGN KEY (name, kind) REFERENCES names (name, kind)
);

-- The greatest id that was ever given out: an id that somebody noted down never comes to mean another key.
CREATE TABLE id_counters (
    name TEXT   NOT NULL PRIMARY KEY,
    used BIGINT NOT NULL CHECK (used >= 0)
);
INSERT INTO id_counters (name, used) VALUES ('keys', 0);

CREATE TABLE keys (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT   NOT NULL REFERENCES accounts (name),
    -- "type base64", without a comment.
    public_key     TEXT   NOT NULL CHECK (public_key LIKE '_% _%'),
    fingerprint    TEXT   NOT NULL UNIQUE CHECK (fingerprint LIKE 'SHA256:%' AND length(fingerprint) = 50),
    label          TEXT   CHECK (label <> ''),
    comment        TEXT   NOT NULL,
    -- As in an authorized_keys line: from="…",expiry-time="…". The expiry stands here and nowhere else.
    options        TEXT   NOT NULL,
    added_at       BIGINT NOT NULL,
    last_used_at   BIGINT,
    last_used_from TEXT   CHECK (last_used_from <> ''),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX keys_by_account ON keys (account);

-- The rows of removed VMs stay: a later VM of the same name takes over the host key.
CREATE TABLE vms (
    id           TEXT   NOT NULL PRIMARY KEY CHECK (length(id) = 16 AND id = lower(id)),
    owner        TEXT   NOT NULL REFERENCES accounts (name),
    team         TEXT   NOT NULL REFERENCES teams (name),
    number       BIGINT NOT NULL CHECK (number BETWEEN 0 AND 4294967295),
    cpus         BIGINT NOT NULL CHECK (cpus BETWEEN 1 AND 4294967295),
    memory       BIGINT NOT NULL CHECK (memory > 0),
    disk         BIGINT NOT NULL CHECK (disk > 0),
    host_key     TEXT   NOT NULL CHECK (host_key <> ''),
    created_at   BIGINT NOT NULL,
    removing_at  BIGINT,
    removed_at   BIGINT,
    last_boot_ms BIGINT CHECK (last_boot_ms >= 0),
    -- Counts the changes of the row.
    generation   BIGINT NOT NULL DEFAULT 0 CHECK (generation >= 0),
    CHECK (removed_at IS NULL OR removing_at IS NOT NULL)
);
CREATE UNIQUE INDEX vms_live_name ON vms (owner, team, number) WHERE removed_at IS NULL;
CREATE INDEX vms_by_name ON vms (owner, team, number);
