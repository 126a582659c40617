-- Runs once, when the server creates its data. The image makes the service's user and its database. `backup --verify`
-- restores into this one.
CREATE DATABASE service_verify;
GRANT ALL PRIVILEGES ON service_verify.* TO service@'%';
