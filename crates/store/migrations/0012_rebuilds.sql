-- A VM's new disk: asked for and not finished, and what is to become of its home; and when it last got one.
ALTER TABLE vms ADD COLUMN rebuilding TEXT CHECK (rebuilding IN ('keep_home', 'discard_home'));
ALTER TABLE vms ADD COLUMN rebuilt_at BIGINT;
