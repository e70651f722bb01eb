-- oldest-code: 3
-- Destinations with settings, attempts, dead letters, replays, assignments, retention, erasure, audit.
-- Older code would not count attempts, and would deliver a conversation past its assignment.

ALTER TABLE channel ADD COLUMN affinity_seconds INTEGER NOT NULL DEFAULT 0;

ALTER TABLE message ADD COLUMN assignment_reason TEXT;

-- Seconds, but for jitter: the part of a back-off that may be left out.
-- pruned_until, pruned_message: what was settled until then, and of that moment messages until that one, has been
-- looked at, and pruned where nothing else kept it.
ALTER TABLE destination ADD COLUMN ack_deadline REAL NOT NULL DEFAULT 60.0;
ALTER TABLE destination ADD COLUMN max_attempts INTEGER NOT NULL DEFAULT 10;
ALTER TABLE destination ADD COLUMN min_backoff REAL NOT NULL DEFAULT 0.1;
ALTER TABLE destination ADD COLUMN max_backoff REAL NOT NULL DEFAULT 60.0;
ALTER TABLE destination ADD COLUMN backoff_jitter REAL NOT NULL DEFAULT 0.2;
ALTER TABLE destination ADD COLUMN is_ordered INTEGER NOT NULL DEFAULT 1;
ALTER TABLE destination ADD COLUMN retention REAL NOT NULL DEFAULT 2592000.0;
ALTER TABLE destination ADD COLUMN pruned_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destination ADD COLUMN pruned_message INTEGER NOT NULL DEFAULT 0;

-- part: 0 for a conversation's own lane, -1 for what is replayed to it, else the one message of an unordered destination.
-- attempts counts those that failed. has_expired: the lease ran out, and was counted; its token may still acknowledge.
-- A lane may wait for leases of others of its conversation, which was assigned away from them: their awaited_by names
-- it, its waits_for the one whose lease ends first, and due_at is that end, even while the lane is empty.
ALTER TABLE lane RENAME TO old_lane;
DROP INDEX lane_due;
DROP INDEX lane_waiting;
CREATE TABLE lane (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL,
  channel_config_id TEXT NOT NULL,
  sender TEXT NOT NULL,
  part INTEGER NOT NULL,
  head INTEGER NOT NULL,
  tail INTEGER NOT NULL,
  front INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  claims INTEGER NOT NULL DEFAULT 0,
  is_leased INTEGER NOT NULL DEFAULT 0,
  has_expired INTEGER NOT NULL DEFAULT 0,
  leased_at INTEGER,
  due_at INTEGER,
  waits_for INTEGER,
  awaited_by INTEGER,
  CONSTRAINT a_conversation_has_one_lane UNIQUE (destination, channel_config_id, sender, part),
  CONSTRAINT a_lane_is_due_while_it_is_not_empty_or_waits
    CHECK ((head <= tail OR waits_for IS NOT NULL) = (due_at IS NOT NULL))
) STRICT;
INSERT INTO lane (id, destination, channel_config_id, sender, part, head, tail, front, attempts, claims, is_leased,
                  leased_at, due_at)
  SELECT id, destination, channel_config_id, sender, 0, head, tail, front, max(attempts - is_leased, 0), claims,
         is_leased, CASE WHEN is_leased THEN due_at END, due_at
  FROM old_lane;
DROP TABLE old_lane;
CREATE INDEX lane_due ON lane (destination, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX lane_of_conversation ON lane (channel_config_id, sender);

-- Deliveries that are done: acknowledged, or discarded by an operator. Kept with their message.
ALTER TABLE acknowledgement RENAME TO settled;
ALTER TABLE settled RENAME COLUMN acknowledged_at TO settled_at;
ALTER TABLE settled ADD COLUMN delivered_at INTEGER;
ALTER TABLE settled ADD COLUMN is_discarded INTEGER NOT NULL DEFAULT 0;
CREATE INDEX settled_in_order ON settled (destination, settled_at);

-- A message could be released to a destination that had no row; retention walks the rows.
INSERT INTO destination (name)
  SELECT destination FROM lane UNION SELECT destination FROM settled EXCEPT SELECT name FROM destination;

-- What was discarded while it was held has no deliveries to tell when it may go.
CREATE INDEX message_discarded ON message (discarded_at) WHERE discarded_at IS NOT NULL;

CREATE INDEX quarantine_of_channel ON quarantine (channel_config_id, number) WHERE settled_at IS NULL;

-- Attempts that failed.
CREATE TABLE attempt (
  message INTEGER NOT NULL,
  destination TEXT NOT NULL,
  ended_at INTEGER NOT NULL,
  number INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  PRIMARY KEY (message, destination, ended_at, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL,
  channel_config_id TEXT NOT NULL,
  message INTEGER NOT NULL,
  is_replayed INTEGER NOT NULL,
  dead_at INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT;
CREATE INDEX dead_letter_of_destination ON dead_letter (destination, number);
CREATE INDEX dead_letter_of_channel ON dead_letter (channel_config_id, number);
CREATE INDEX dead_letter_of_message ON dead_letter (message);

-- Where a conversation stays for now. reason: ASSIGNED or AFFINITY.
CREATE TABLE assignment (
  channel_config_id TEXT NOT NULL,
  sender TEXT NOT NULL,
  destination TEXT NOT NULL,
  assigned_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (channel_config_id, sender)
) STRICT, WITHOUT ROWID;
CREATE INDEX assignment_expired ON assignment (expires_at);

-- selection is JSON. Messages up to sequence `position` have been looked at; none after `last` is.
CREATE TABLE replay (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  replay_id TEXT NOT NULL CONSTRAINT a_replay_starts_once UNIQUE,
  destination TEXT NOT NULL,
  selection TEXT NOT NULL,
  max_rate INTEGER NOT NULL,
  requested_by TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  is_cancelled INTEGER NOT NULL,
  total INTEGER NOT NULL,
  queued INTEGER NOT NULL,
  position INTEGER NOT NULL,
  last INTEGER NOT NULL,
  due_at INTEGER NOT NULL
) STRICT;
CREATE INDEX replay_due ON replay (due_at) WHERE ended_at IS NULL;

-- Senders whose messages were erased: what they wrote before that and comes late is dropped.
CREATE TABLE erased_sender (
  hash BLOB PRIMARY KEY,
  erased_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE erasure_key (key BLOB NOT NULL) STRICT;
INSERT INTO erasure_key VALUES (randomblob(32));

-- What was done by hand, or followed from it. details is JSON: names and numbers, nobody's words.
CREATE TABLE audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  details TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_action ON audit (action, number);
