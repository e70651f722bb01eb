-- oldest-code: 4
-- Signatures: what a channel makes of them, the sealed secrets that they are checked with, what the checks found.
-- Older code would forget both whenever it changes a channel.

-- signature_secrets is JSON: each secret's id, kind, when it was added, and what it is, sealed.
ALTER TABLE channel ADD COLUMN signature_check TEXT NOT NULL DEFAULT 'OFF';
ALTER TABLE channel ADD COLUMN signature_secrets TEXT NOT NULL DEFAULT '[]';

CREATE TABLE signature_count (
  channel_config_id TEXT NOT NULL,
  result TEXT NOT NULL,
  count INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  PRIMARY KEY (channel_config_id, result)
) STRICT, WITHOUT ROWID;

-- When each password of a channel was last used. password_id is made of its hash: see models.Credentials.
CREATE TABLE password_use (
  channel_config_id TEXT NOT NULL,
  password_id TEXT NOT NULL,
  used_at INTEGER NOT NULL,
  PRIMARY KEY (channel_config_id, password_id)
) STRICT, WITHOUT ROWID;

-- Not even we change what is in the audit log, or remove it.
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_never_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
