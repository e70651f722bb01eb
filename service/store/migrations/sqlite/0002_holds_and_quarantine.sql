-- oldest-code: 2
-- What operators settle: held messages, clashes, quarantined requests; and what came in on each channel.
-- Older code would take a discarded message for a delivered one.

ALTER TABLE message ADD COLUMN discarded_at INTEGER;

-- Position of the last delivery that a release put in front of a lane; meaningless once head has passed it.
ALTER TABLE lane ADD COLUMN front INTEGER;

-- Held messages in their order, all of them or those of a channel.
DROP INDEX message_held;
CREATE INDEX message_held ON message (sequence) WHERE hold_reason IS NOT NULL;
CREATE INDEX message_held_of_channel ON message (channel_config_id, sequence) WHERE hold_reason IS NOT NULL;

-- Other messages that came with the id of a stored one; the first ten of each.
CREATE TABLE clash (
  message INTEGER NOT NULL,
  fingerprint BLOB NOT NULL,
  committed_at INTEGER NOT NULL,
  payload BLOB NOT NULL,
  CONSTRAINT a_clash_is_kept_once PRIMARY KEY (message, fingerprint)
) STRICT, WITHOUT ROWID;

-- Requests that are no valid MO message. A settled one keeps its row for a while, without content,
-- so that a repeat of it that is late doesn't come back.
CREATE TABLE quarantine (
  number INTEGER PRIMARY KEY,
  entry_id TEXT NOT NULL CONSTRAINT a_request_is_quarantined_once UNIQUE,
  channel_config_id TEXT NOT NULL,
  is_accepted INTEGER NOT NULL,
  stored_at INTEGER NOT NULL,
  settled_at INTEGER,
  payload BLOB NOT NULL
) STRICT;
CREATE INDEX quarantine_open ON quarantine (number) WHERE settled_at IS NULL;
CREATE INDEX quarantine_refused ON quarantine (number) WHERE settled_at IS NULL AND is_accepted = 0;
CREATE INDEX quarantine_settled ON quarantine (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE channel_activity (
  channel_config_id TEXT PRIMARY KEY,
  last_message_at INTEGER,
  messages INTEGER NOT NULL,
  recovered INTEGER NOT NULL,
  clashes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO channel_activity
  SELECT channel_config_id, max(committed_at), count(*), 0, 0 FROM message GROUP BY channel_config_id;

-- One row, written to see whether the store can commit. (What doesn't change isn't written.)
CREATE TABLE heartbeat (written_at INTEGER NOT NULL) STRICT;
INSERT INTO heartbeat VALUES (0);
