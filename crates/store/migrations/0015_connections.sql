-- What went through a connection into a VM, in its line of the audit trail: bytes into the VM and out of it, and how long
-- it was open. Of connections that are alike and count in one line, the sum.
ALTER TABLE audit ADD COLUMN sent BIGINT CHECK (sent >= 0);
ALTER TABLE audit ADD COLUMN received BIGINT CHECK (received >= 0);
ALTER TABLE audit ADD COLUMN lasted_ms BIGINT CHECK (lasted_ms >= 0);
