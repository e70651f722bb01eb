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
