-- The key that signs certificates for log-ins to VMs: one for ever, since guests that run trust it. The file that this is
-- in is readable by its owner only, as it holds the VMs' host keys too.
CREATE TABLE user_ca (
    id          BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    private_key TEXT   NOT NULL CHECK (private_key <> ''),
    made_at     BIGINT NOT NULL
);
