-- Passkeys (WebAuthn). Nothing of them is secret.
CREATE TABLE passkeys (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT   NOT NULL REFERENCES accounts (name),
    -- What its owner calls it.
    label          TEXT   NOT NULL CHECK (length(label) BETWEEN 1 AND 100),
    -- As the authenticator names it, in base64url without padding.
    credential     TEXT   NOT NULL UNIQUE CHECK (credential <> ''),
    -- What authenticators know the account by: the same in all of its passkeys.
    user_handle    TEXT   NOT NULL CHECK (user_handle <> ''),
    -- COSE's number of the algorithm, and SubjectPublicKeyInfo in base64url without padding.
    algorithm      BIGINT NOT NULL,
    public_key     TEXT   NOT NULL CHECK (public_key <> ''),
    -- The authenticator's count of its signatures as last seen. One that goes back is a copy's.
    sign_count     BIGINT NOT NULL CHECK (sign_count >= 0),
    added_at       BIGINT NOT NULL,
    last_used_at   BIGINT,
    last_used_from TEXT   CHECK (last_used_from <> ''),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX passkeys_by_account ON passkeys (account);
INSERT INTO id_counters (name, used) VALUES ('passkeys', 0);
