-- The authorities whose certificates let members of a team in. What is here is public; the private halves are elsewhere.
CREATE TABLE team_cas (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    team        TEXT   NOT NULL REFERENCES teams (name),
    -- "type base64", without a comment.
    public_key  TEXT   NOT NULL CHECK (public_key LIKE '_% _%'),
    fingerprint TEXT   NOT NULL CHECK (fingerprint LIKE 'SHA256:%' AND length(fingerprint) = 50),
    label       TEXT   NOT NULL CHECK (label <> ''),
    added_at    BIGINT NOT NULL,
    UNIQUE (team, fingerprint)
);
INSERT INTO id_counters (name, used) VALUES ('team_cas', 0);

-- Which of their certificates were taken back: a file in the format of OpenSSH's PROTOCOL.krl, in base64.
CREATE TABLE team_krls (
    team      TEXT   NOT NULL PRIMARY KEY REFERENCES teams (name),
    krl       TEXT   NOT NULL CHECK (krl <> ''),
    loaded_at BIGINT NOT NULL
);
