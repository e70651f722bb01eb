-- oldest-code: 2
-- What operators settle: held messages, clashes, quarantined requests; and what came in on each channel.

ALTER TABLE message ADD COLUMN discarded_at bigint;

-- Held messages in their order, all of them or those of a channel.
CREATE INDEX message_held ON message (sequence) WHERE hold_reason IS NOT NULL;
CREATE INDEX message_held_of_channel ON message (channel_config_id, sequence) WHERE hold_reason IS NOT NULL;

-- Other messages that came with the id of a stored one; the first ten of each.
CREATE TABLE clash (
  message bigint NOT NULL,
  committed_at bigint NOT NULL,
  fingerprint bytea NOT NULL,
  payload bytea NOT NULL,
  CONSTRAINT a_clash_is_kept_once PRIMARY KEY (message, fingerprint)
);

-- Requests that are no valid MO message. A settled one keeps its row for a while, without content,
-- so that a repeat of it that is late doesn't come back.
-- Who adds some locks out the others, so that numbers are committed in their order.
CREATE TABLE quarantine (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stored_at bigint NOT NULL,
  settled_at bigint,
  is_accepted boolean NOT NULL,
  entry_id text COLLATE "C" NOT NULL CONSTRAINT a_request_is_quarantined_once UNIQUE,
  channel_config_id text COLLATE "C" NOT NULL,
  payload bytea NOT NULL
);
CREATE INDEX quarantine_open ON quarantine (number) WHERE settled_at IS NULL;
CREATE INDEX quarantine_refused ON quarantine (number) WHERE settled_at IS NULL AND NOT is_accepted;
CREATE INDEX quarantine_settled ON quarantine (settled_at) WHERE settled_at IS NOT NULL;

-- The rows of a channel are summed up. Each transaction counts in the row of its server process, modulo a few: so
-- transactions that take in messages of one channel at once needn't wait for each other, as they would for one row; and
-- rows are as few as that, where a row for each transaction would have to be gathered by somebody.
CREATE TABLE channel_activity (
  last_message_at bigint,
  messages bigint NOT NULL,
  recovered bigint NOT NULL,
  clashes bigint NOT NULL,
  counter smallint NOT NULL,
  channel_config_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (channel_config_id, counter)
) WITH (fillfactor = 50);

-- One row, written to see whether the store can commit.
CREATE TABLE heartbeat (written_at bigint NOT NULL);
INSERT INTO heartbeat VALUES (0);
