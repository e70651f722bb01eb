-- oldest-code: 4
-- Signatures: what a channel makes of them, the sealed secrets that they are checked with, what the checks found.
-- Older code would forget both whenever it changes a channel.

-- signature_secrets is JSON: each secret's id, kind, when it was added, and what it is, sealed.
ALTER TABLE channel ADD COLUMN signature_check text NOT NULL DEFAULT 'OFF';
ALTER TABLE channel ADD COLUMN signature_secrets text NOT NULL DEFAULT '[]';

CREATE TABLE signature_count (
  channel_config_id text COLLATE "C" NOT NULL,
  result text NOT NULL,
  count bigint NOT NULL,
  last_at bigint NOT NULL,
  PRIMARY KEY (channel_config_id, result)
);
