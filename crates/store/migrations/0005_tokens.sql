-- Tokens for the HTTP API. Of a token only the SHA-256 is here, in hexadecimal digits.
CREATE TABLE tokens (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    account        TEXT   NOT NULL REFERENCES accounts (name),
    -- What its owner calls it.
    label          TEXT   NOT NULL CHECK (length(label) BETWEEN 1 AND 100),
    token_hash     TEXT   NOT NULL UNIQUE CHECK (length(token_hash) = 64),
    -- Words with a space between them.
    scopes         TEXT   NOT NULL CHECK (scopes <> ''),
    made_at        BIGINT NOT NULL,
    expires_at     BIGINT,
    last_used_at   BIGINT,
    last_used_from TEXT   CHECK (last_used_from <> ''),
    CHECK (expires_at > made_at),
    CHECK ((last_used_at IS NULL) = (last_used_from IS NULL))
);
CREATE INDEX tokens_by_account ON tokens (account);
INSERT INTO id_counters (name, used) VALUES ('tokens', 0);
