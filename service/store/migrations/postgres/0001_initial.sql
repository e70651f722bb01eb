-- oldest-code: 1
-- Channels and messages. Times are microseconds since 1970. Keys are compared byte by byte, as Python does it.

-- One row: which directory this is, and the revision of its last change.
-- Whoever changes anything in the directory updates it first, and has it to himself until the commit: so revisions
-- are committed in their order, and nobody who follows them passes one that is still open.
CREATE TABLE directory (
  directory_id text NOT NULL,
  revision bigint NOT NULL
);
INSERT INTO directory VALUES (replace(gen_random_uuid()::text, '-', ''), 0);

-- A deleted channel keeps its row, without credentials, so that its id is not used again.
CREATE TABLE channel (
  channel_config_id text COLLATE "C" PRIMARY KEY,
  provider text NOT NULL,
  number text NOT NULL,
  webhook_user text NOT NULL,
  password_hash text NOT NULL,
  previous_password_hash text,
  previous_password_expires_at bigint,
  credential_revision bigint NOT NULL,
  state text NOT NULL CONSTRAINT channel_state_is_known CHECK (state IN ('ENABLED', 'DISABLED', 'PAUSED', 'DELETED')),
  destination text COLLATE "C",
  infer_message_type boolean NOT NULL,
  route_revision bigint NOT NULL,
  revision bigint NOT NULL CONSTRAINT every_change_has_its_revision UNIQUE,
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL
);

-- Every revision of every channel's routes, as JSON; messages name the one that decided.
-- It is text: jsonb can't hold a NUL, and needn't look inside.
CREATE TABLE route_set (
  channel_config_id text COLLATE "C" NOT NULL,
  route_revision bigint NOT NULL,
  routes text NOT NULL,
  created_at bigint NOT NULL,
  PRIMARY KEY (channel_config_id, route_revision)
);

-- Every name that a channel or a route has ever sent to.
CREATE TABLE destination (
  name text COLLATE "C" PRIMARY KEY
);

-- sequence grows in the order of the intake, and in each conversation in the order of commit; none is used again.
-- Between conversations one that is greater may be committed earlier, and have an earlier committed_at, by as much as a
-- transaction takes.
CREATE SEQUENCE message_sequence;

-- The sequence is unique by where it comes from. No constraint says so: that would keep the table from being
-- partitioned by channel.
CREATE TABLE message (
  sequence bigint NOT NULL DEFAULT nextval('message_sequence'),
  committed_at bigint NOT NULL,
  route_revision bigint NOT NULL,
  channel_config_id text COLLATE "C" NOT NULL,
  message_sid text COLLATE "C" NOT NULL,
  sender text COLLATE "C" NOT NULL,
  hold_reason text,
  route_id text NOT NULL,
  destinations text[] COLLATE "C" NOT NULL,
  payload bytea NOT NULL,
  CONSTRAINT a_message_is_stored_once PRIMARY KEY (channel_config_id, message_sid)
);
CREATE INDEX message_in_order ON message (sequence);
CREATE INDEX message_of_conversation ON message (channel_config_id, sender, sequence);
