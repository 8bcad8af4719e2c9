-- The keys that sign host certificates. All of them are trusted, exactly one signs: while one takes the place of another there
-- are two.
CREATE TABLE host_cas (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    private_key TEXT   NOT NULL CHECK (private_key <> ''),
    signs       BIGINT NOT NULL CHECK (signs IN (0, 1)),
    made_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX host_cas_signs ON host_cas (signs) WHERE signs = 1;
