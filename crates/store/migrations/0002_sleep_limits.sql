-- Sleep and room: what keeps a VM awake, when it fell asleep and why, what an account may have.

ALTER TABLE vms ADD COLUMN always_on BIGINT NOT NULL DEFAULT 0 CHECK (always_on IN (0, 1));
-- A person turned it off: an always-on VM stays off until somebody starts it.
ALTER TABLE vms ADD COLUMN turned_off BIGINT NOT NULL DEFAULT 0 CHECK (turned_off IN (0, 1));
ALTER TABLE vms ADD COLUMN snoozed_until BIGINT;
-- The last time that somebody or something used it, and what for: JSON of berth-control.
ALTER TABLE vms ADD COLUMN used_at BIGINT;
ALTER TABLE vms ADD COLUMN used_for TEXT CHECK (used_for <> '');
-- The last time that it was put to sleep, and why: JSON of berth-control.
ALTER TABLE vms ADD COLUMN slept_at BIGINT;
ALTER TABLE vms ADD COLUMN slept_for TEXT CHECK (slept_for <> '');
-- The last identification line of its sshd (RFC 4253, 4.2), without the line's end.
ALTER TABLE vms ADD COLUMN identification TEXT CHECK (identification LIKE 'SSH-%' AND length(identification) <= 253);

-- What the operator has set for one account in place of the configuration's limits.
ALTER TABLE accounts ADD COLUMN max_vms BIGINT CHECK (max_vms >= 0);
ALTER TABLE accounts ADD COLUMN max_cpus BIGINT CHECK (max_cpus >= 0);
ALTER TABLE accounts ADD COLUMN max_memory BIGINT CHECK (max_memory >= 0);
ALTER TABLE accounts ADD COLUMN max_disk BIGINT CHECK (max_disk >= 0);
