-- What happened: written once, and read by the account that it is about and by operators. Accounts are named by text and
-- not by reference, so that a line costs no look elsewhere and stands whatever becomes of them.
CREATE TABLE audit (
    id      BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    at      BIGINT NOT NULL,
    kind    TEXT   NOT NULL CHECK (kind <> ''),
    -- Whom it is about; nobody where that is not known.
    account TEXT   CHECK (account <> ''),
    -- Whose account did it; nobody for somebody on the server itself, and where that is not known.
    actor   TEXT   CHECK (actor <> ''),
    way     TEXT   NOT NULL CHECK (way IN ('host', 'web', 'api', 'ssh')),
    address TEXT   CHECK (address <> ''),
    -- What it is about beside the account: a VM, a key.
    subject TEXT   NOT NULL,
    detail  TEXT   NOT NULL,
    -- A log-in that is like the last one counts in its line.
    times   BIGINT NOT NULL DEFAULT 1 CHECK (times > 0),
    last_at BIGINT NOT NULL,
    CHECK (last_at >= at)
);
CREATE INDEX audit_by_account ON audit (account, id);
CREATE INDEX audit_by_kind ON audit (kind, address, id);
INSERT INTO id_counters (name, used) VALUES ('audit', 0);
