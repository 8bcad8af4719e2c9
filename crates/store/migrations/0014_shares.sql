-- VMs that their owners share with other accounts: asked with a row, and shared from when it is accepted. Rows go when it
-- ends, in whatever way.
CREATE TABLE shares (
    vm          TEXT   NOT NULL REFERENCES vms (id),
    account     TEXT   NOT NULL REFERENCES accounts (name),
    sudo        BIGINT NOT NULL CHECK (sudo IN (0, 1)),
    made_at     BIGINT NOT NULL,
    -- Until when it can be accepted, and since when it is.
    accept_by   BIGINT NOT NULL CHECK (accept_by > made_at),
    accepted_at BIGINT CHECK (accepted_at >= made_at AND accepted_at <= accept_by),
    -- Until when it is shared; for as long as nobody takes it back, without.
    ends_at     BIGINT CHECK (ends_at > made_at),
    PRIMARY KEY (vm, account)
);
CREATE INDEX shares_by_account ON shares (account);

-- The Linux user id of an account in every VM that is not its own, so that files mean the same in all of them. Never
-- another account's. Below are users that people make, above what systemd keeps for itself.
CREATE TABLE guest_uids (
    account TEXT   NOT NULL PRIMARY KEY REFERENCES accounts (name),
    uid     BIGINT NOT NULL UNIQUE CHECK (uid BETWEEN 20001 AND 59999)
);
INSERT INTO id_counters (name, used) VALUES ('guest_uids', 20000);
