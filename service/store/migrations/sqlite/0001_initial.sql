-- oldest-code: 1
-- Everything of the first version. Times are microseconds since 1970.

-- One row: which directory this is, and the revision of its last change.
CREATE TABLE directory (
  directory_id TEXT NOT NULL,
  revision INTEGER NOT NULL
) STRICT;
INSERT INTO directory VALUES (lower(hex(randomblob(16))), 0);

-- A deleted channel keeps its row, without credentials, so that its id is not used again.
CREATE TABLE channel (
  channel_config_id TEXT PRIMARY KEY,
  provider TEXT NOT NULL,
  number TEXT NOT NULL,
  webhook_user TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  previous_password_hash TEXT,
  previous_password_expires_at INTEGER,
  credential_revision INTEGER NOT NULL,
  state TEXT NOT NULL CONSTRAINT channel_state_is_known CHECK (state IN ('ENABLED', 'DISABLED', 'PAUSED', 'DELETED')),
  destination TEXT,
  infer_message_type INTEGER NOT NULL,
  route_revision INTEGER NOT NULL,
  revision INTEGER NOT NULL CONSTRAINT every_change_has_its_revision UNIQUE,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every revision of every channel's routes, as JSON; messages name the one that decided.
CREATE TABLE route_set (
  channel_config_id TEXT NOT NULL,
  route_revision INTEGER NOT NULL,
  routes TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (channel_config_id, route_revision)
) STRICT, WITHOUT ROWID;

-- Every name that a channel or a route has ever sent to.
CREATE TABLE destination (
  name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- sequence grows in the order of commit; none is used again.
-- committed_at never falls as sequence grows. destinations is a JSON list.
CREATE TABLE message (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  channel_config_id TEXT NOT NULL,
  message_sid TEXT NOT NULL,
  sender TEXT NOT NULL,
  committed_at INTEGER NOT NULL,
  hold_reason TEXT,
  route_id TEXT NOT NULL,
  route_revision INTEGER NOT NULL,
  destinations TEXT NOT NULL,
  payload BLOB NOT NULL,
  CONSTRAINT a_message_is_stored_once UNIQUE (channel_config_id, message_sid)
) STRICT;
CREATE INDEX message_of_conversation ON message (channel_config_id, sender);
CREATE INDEX message_held ON message (channel_config_id) WHERE hold_reason IS NOT NULL;

-- One row for each conversation in each destination: the lock, the queue's head, the counter and the lease.
-- head is the position of the oldest unsettled delivery, tail that of the newest: empty when head > tail.
-- due_at tells when the head may be claimed: it is the end of the lease while one is out.
-- claims only grows: it fences a settlement to its claim. Ids are never used again, so old tokens stay dead.
CREATE TABLE lane (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL,
  channel_config_id TEXT NOT NULL,
  sender TEXT NOT NULL,
  head INTEGER NOT NULL,
  tail INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  claims INTEGER NOT NULL,
  is_leased INTEGER NOT NULL,
  due_at INTEGER,
  CONSTRAINT a_conversation_has_one_lane UNIQUE (destination, channel_config_id, sender),
  CONSTRAINT a_lane_is_due_while_it_is_not_empty CHECK ((head <= tail) = (due_at IS NOT NULL))
) STRICT;
CREATE INDEX lane_due ON lane (destination, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX lane_waiting ON lane (channel_config_id) WHERE due_at IS NOT NULL;

-- What is not acknowledged yet; never updated.
CREATE TABLE delivery (
  lane INTEGER NOT NULL,
  position INTEGER NOT NULL,
  message INTEGER NOT NULL,
  PRIMARY KEY (lane, position)
) STRICT, WITHOUT ROWID;

-- What was acknowledged: kept with its message.
CREATE TABLE acknowledgement (
  message INTEGER NOT NULL,
  destination TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  acknowledged_at INTEGER NOT NULL,
  PRIMARY KEY (message, destination)
) STRICT, WITHOUT ROWID;
