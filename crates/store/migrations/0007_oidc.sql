-- Accounts elsewhere (OpenID Connect) that let in to accounts here. Nothing of them is secret.
CREATE TABLE oidc_identities (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT   NOT NULL REFERENCES accounts (name),
    issuer         TEXT   NOT NULL CHECK (issuer <> ''),
    -- What the issuer calls the person, for ever: sub.
    subject        TEXT   NOT NULL CHECK (subject <> ''),
    -- What people call it: an address, a name. Decides nothing.
    label          TEXT   NOT NULL CHECK (length(label) <= 200),
    added_at       BIGINT NOT NULL,
    last_used_at   BIGINT,
    last_used_from TEXT   CHECK (last_used_from <> ''),
    UNIQUE (issuer, subject),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX oidc_identities_by_account ON oidc_identities (account);
INSERT INTO id_counters (name, used) VALUES ('oidc_identities', 0);
