-- What a person calls a VM, and how long its last wake took.
ALTER TABLE vms ADD COLUMN title TEXT CHECK (length(title) BETWEEN 1 AND 40);
ALTER TABLE vms ADD COLUMN last_wake_ms BIGINT CHECK (last_wake_ms >= 0);
