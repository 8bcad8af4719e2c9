-- Who may see what a port of a VM serves, where somebody has decided that. Without a row, port 80 is public and every other
-- port its owner's.
CREATE TABLE port_access (
    vm     TEXT   NOT NULL REFERENCES vms (id),
    port   BIGINT NOT NULL CHECK (port = 80 OR port BETWEEN 1024 AND 65535),
    access TEXT   NOT NULL CHECK (access IN ('public', 'team', 'owner')),
    set_at BIGINT NOT NULL,
    PRIMARY KEY (vm, port)
);
