-- Ids of guests are above what useradd and adduser give out (UID_MAX is 60000) and what systemd keeps for itself (up to
-- 65534), and below the subordinate ids of a VM's owner (from 100000 on). Within those bounds an id that somebody makes in a
-- VM could be that of a guest who comes later.
CREATE TEMPORARY TABLE known_uids AS SELECT account, uid FROM guest_uids;
DROP TABLE guest_uids;
CREATE TABLE guest_uids (
    account TEXT   NOT NULL PRIMARY KEY REFERENCES accounts (name),
    uid     BIGINT NOT NULL UNIQUE CHECK (uid BETWEEN 70001 AND 99999)
);
INSERT INTO guest_uids (account, uid) SELECT account, uid + 50000 FROM known_uids;
DROP TABLE known_uids;
UPDATE id_counters SET used = used + 50000 WHERE name = 'guest_uids';
