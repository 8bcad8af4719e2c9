-- All that the first twenty migrations of SQLite come to. From here on both have a migration of the same number for each
-- change, and a test compares what they make. A text is compared byte by byte, as SQLite does, whatever the language of the
-- server is. Times are milliseconds since 1970-01-01 UTC, sizes are bytes. What the columns mean stands in SQLite's.

CREATE TABLE names (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 2 AND 32 AND name = lower(name)),
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('account', 'team')),
    UNIQUE (name, kind)
);

CREATE TABLE teams (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL DEFAULT 'team' CHECK (kind = 'team'),
    FOREIGN KEY (name, kind) REFERENCES names (name, kind)
);

CREATE TABLE accounts (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind       TEXT COLLATE "C" NOT NULL DEFAULT 'account' CHECK (kind = 'account'),
    created_at BIGINT NOT NULL,
    removed_at BIGINT,
    generation BIGINT NOT NULL DEFAULT 0 CHECK (generation >= 0),
    max_vms    BIGINT CHECK (max_vms >= 0),
    max_cpus   BIGINT CHECK (max_cpus >= 0),
    max_memory BIGINT CHECK (max_memory >= 0),
    max_disk   BIGINT CHECK (max_disk >= 0),
    role       TEXT COLLATE "C" NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'operator')),
    blocked_at BIGINT,
    FOREIGN KEY (name, kind) REFERENCES names (name, kind)
);

CREATE TABLE id_counters (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    used BIGINT NOT NULL CHECK (used >= 0)
);

CREATE TABLE keys (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    public_key     TEXT COLLATE "C" NOT NULL CHECK (public_key LIKE '_% _%'),
    fingerprint    TEXT COLLATE "C" NOT NULL UNIQUE CHECK (fingerprint LIKE 'SHA256:%' AND length(fingerprint) = 50),
    label          TEXT COLLATE "C" CHECK (label <> ''),
    comment        TEXT COLLATE "C" NOT NULL,
    options        TEXT COLLATE "C" NOT NULL,
    added_at       BIGINT NOT NULL,
    last_used_at   BIGINT,
    last_used_from TEXT COLLATE "C" CHECK (last_used_from <> ''),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX keys_by_account ON keys (account);

CREATE TABLE vms (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(id) = 16 AND id = lower(id)),
    owner        TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    team         TEXT COLLATE "C" NOT NULL REFERENCES teams (name),
    number       BIGINT NOT NULL CHECK (number BETWEEN 0 AND 4294967295),
    cpus         BIGINT NOT NULL CHECK (cpus BETWEEN 1 AND 4294967295),
    memory       BIGINT NOT NULL CHECK (memory > 0),
    disk         BIGINT NOT NULL CHECK (disk > 0),
    host_key     TEXT COLLATE "C" NOT NULL CHECK (host_key <> ''),
    created_at   BIGINT NOT NULL,
    removing_at  BIGINT,
    removed_at   BIGINT,
    last_boot_ms BIGINT CHECK (last_boot_ms >= 0),
    generation   BIGINT NOT NULL DEFAULT 0 CHECK (generation >= 0),
    always_on      BIGINT NOT NULL DEFAULT 0 CHECK (always_on IN (0, 1)),
    turned_off     BIGINT NOT NULL DEFAULT 0 CHECK (turned_off IN (0, 1)),
    snoozed_until  BIGINT,
    used_at        BIGINT,
    used_for       TEXT COLLATE "C" CHECK (used_for <> ''),
    slept_at       BIGINT,
    slept_for      TEXT COLLATE "C" CHECK (slept_for <> ''),
    identification TEXT COLLATE "C" CHECK (identification LIKE 'SSH-%' AND length(identification) <= 253),
    title          TEXT COLLATE "C" CHECK (length(title) BETWEEN 1 AND 40),
    last_wake_ms   BIGINT CHECK (last_wake_ms >= 0),
    rebuilding     TEXT COLLATE "C" CHECK (rebuilding IN ('keep_home', 'discard_home')),
    rebuilt_at     BIGINT,
    CHECK (removed_at IS NULL OR removing_at IS NOT NULL)
);
CREATE UNIQUE INDEX vms_live_name ON vms (owner, team, number) WHERE removed_at IS NULL;
CREATE INDEX vms_by_name ON vms (owner, team, number);

CREATE TABLE passwords (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES accounts (name),
    hash    TEXT COLLATE "C" NOT NULL CHECK (hash LIKE '$argon2id$%'),
    set_at  BIGINT NOT NULL
);

CREATE TABLE login_sessions (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account     TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    cookie_hash TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(cookie_hash) = 64),
    way         TEXT COLLATE "C" NOT NULL CHECK (way IN ('password', 'link', 'invitation', 'passkey', 'oidc')),
    created_at  BIGINT NOT NULL,
    proved_at   BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    address     TEXT COLLATE "C" NOT NULL CHECK (address <> ''),
    user_agent  TEXT COLLATE "C" NOT NULL CHECK (length(user_agent) <= 300)
);
CREATE INDEX login_sessions_by_account ON login_sessions (account);

CREATE TABLE links (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    token_hash  TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(token_hash) = 64),
    purpose     TEXT COLLATE "C" NOT NULL CHECK (purpose IN ('log_in', 'reset', 'invitation')),
    account     TEXT COLLATE "C" REFERENCES accounts (name),
    preset_name TEXT COLLATE "C",
    role        TEXT COLLATE "C" CHECK (role IN ('member', 'operator')),
    note        TEXT COLLATE "C" CHECK (length(note) <= 200),
    made_by     TEXT COLLATE "C" REFERENCES accounts (name),
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

CREATE TABLE audit (
    id      BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    at      BIGINT NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL CHECK (kind <> ''),
    account TEXT COLLATE "C" CHECK (account <> ''),
    actor   TEXT COLLATE "C" CHECK (actor <> ''),
    way     TEXT COLLATE "C" NOT NULL CHECK (way IN ('host', 'web', 'api', 'ssh')),
    address TEXT COLLATE "C" CHECK (address <> ''),
    subject TEXT COLLATE "C" NOT NULL,
    detail  TEXT COLLATE "C" NOT NULL,
    times   BIGINT NOT NULL DEFAULT 1 CHECK (times > 0),
    last_at BIGINT NOT NULL,
    sent      BIGINT CHECK (sent >= 0),
    received  BIGINT CHECK (received >= 0),
    lasted_ms BIGINT CHECK (lasted_ms >= 0),
    CHECK (last_at >= at)
);
CREATE INDEX audit_by_account ON audit (account, id);
CREATE INDEX audit_by_kind ON audit (kind, address, id);

CREATE TABLE tokens (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    label          TEXT COLLATE "C" NOT NULL CHECK (length(label) BETWEEN 1 AND 100),
    token_hash     TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(token_hash) = 64),
    scopes         TEXT COLLATE "C" NOT NULL CHECK (scopes <> ''),
    made_at        BIGINT NOT NULL,
    expires_at     BIGINT,
    last_used_at   BIGINT,
    last_used_from TEXT COLLATE "C" CHECK (last_used_from <> ''),
    CHECK (expires_at > made_at),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX tokens_by_account ON tokens (account);

CREATE TABLE passkeys (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    label          TEXT COLLATE "C" NOT NULL CHECK (length(label) BETWEEN 1 AND 100),
    credential     TEXT COLLATE "C" NOT NULL UNIQUE CHECK (credential <> ''),
    user_handle    TEXT COLLATE "C" NOT NULL CHECK (user_handle <> ''),
    algorithm      BIGINT NOT NULL,
    public_key     TEXT COLLATE "C" NOT NULL CHECK (public_key <> ''),
    sign_count     BIGINT NOT NULL CHECK (sign_count >= 0),
    added_at       BIGINT NOT NULL,
    last_used_at   BIGINT,
    last_used_from TEXT COLLATE "C" CHECK (last_used_from <> ''),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX passkeys_by_account ON passkeys (account);

CREATE TABLE oidc_identities (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    issuer         TEXT COLLATE "C" NOT NULL CHECK (issuer <> ''),
    subject        TEXT COLLATE "C" NOT NULL CHECK (subject <> ''),
    label          TEXT COLLATE "C" NOT NULL CHECK (length(label) <= 200),
    added_at       BIGINT NOT NULL,
    last_used_at   BIGINT,
    last_used_from TEXT COLLATE "C" CHECK (last_used_from <> ''),
    UNIQUE (issuer, subject),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX oidc_identities_by_account ON oidc_identities (account);

CREATE TABLE port_access (
    vm     TEXT COLLATE "C" NOT NULL REFERENCES vms (id),
    port   BIGINT NOT NULL CHECK (port = 80 OR port BETWEEN 1024 AND 65535),
    access TEXT COLLATE "C" NOT NULL CHECK (access IN ('public', 'team', 'owner')),
    set_at BIGINT NOT NULL,
    PRIMARY KEY (vm, port)
);

CREATE TABLE user_ca (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    private_key TEXT COLLATE "C" NOT NULL CHECK (private_key <> ''),
    made_at     BIGINT NOT NULL
);

CREATE TABLE host_cas (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    private_key TEXT COLLATE "C" NOT NULL CHECK (private_key <> ''),
    signs       BIGINT NOT NULL CHECK (signs IN (0, 1)),
    made_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX host_cas_signs ON host_cas (signs) WHERE signs = 1;

CREATE TABLE shares (
    vm          TEXT COLLATE "C" NOT NULL REFERENCES vms (id),
    account     TEXT COLLATE "C" NOT NULL REFERENCES accounts (name),
    sudo        BIGINT NOT NULL CHECK (sudo IN (0, 1)),
    made_at     BIGINT NOT NULL,
    accept_by   BIGINT NOT NULL CHECK (accept_by > made_at),
    accepted_at BIGINT CHECK (accepted_at >= made_at AND accepted_at <= accept_by),
    ends_at     BIGINT CHECK (ends_at > made_at),
    PRIMARY KEY (vm, account)
);
CREATE INDEX shares_by_account ON shares (account);

CREATE TABLE team_cas (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    team        TEXT COLLATE "C" NOT NULL REFERENCES teams (name),
    public_key  TEXT COLLATE "C" NOT NULL CHECK (public_key LIKE '_% _%'),
    fingerprint TEXT COLLATE "C" NOT NULL CHECK (fingerprint LIKE 'SHA256:%' AND length(fingerprint) = 50),
    label       TEXT COLLATE "C" NOT NULL CHECK (label <> ''),
    added_at    BIGINT NOT NULL,
    UNIQUE (team, fingerprint)
);

CREATE TABLE team_krls (
    team      TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES teams (name),
    krl       TEXT COLLATE "C" NOT NULL CHECK (krl <> ''),
    loaded_at BIGINT NOT NULL
);

CREATE TABLE guest_uids (
    account TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES accounts (name),
    uid     BIGINT NOT NULL UNIQUE CHECK (uid BETWEEN 70001 AND 99999)
);

-- An id that was given out never comes to mean something else.
INSERT INTO id_counters (name, used)
VALUES ('keys', 0), ('accounts', 0), ('login_sessions', 0), ('links', 0), ('audit', 0), ('tokens', 0), ('passkeys', 0),
       ('oidc_identities', 0), ('guest_uids', 70000), ('team_cas', 0);

-- What stands in the place of the owner of a VM that belongs to its team.
INSERT INTO names (name, kind) VALUES ('shared', 'account');
INSERT INTO accounts (name, created_at) VALUES ('shared', 0);
