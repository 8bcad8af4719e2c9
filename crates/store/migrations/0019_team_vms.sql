-- VMs that belong to their team and to no account. What stands in the place of their owner is a row that nobody can log in to
-- and that no list shows: its name was reserved from the beginning.
INSERT INTO names (name, kind) VALUES ('shared', 'account');
INSERT INTO accounts (name, created_at) VALUES ('shared', 0);
