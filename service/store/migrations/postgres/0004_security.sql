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

-- When each password of a channel was last used. password_id is made of its hash: see models.Credentials.
CREATE TABLE password_use (
  channel_config_id text COLLATE "C" NOT NULL,
  password_id text COLLATE "C" NOT NULL,
  used_at bigint NOT NULL,
  PRIMARY KEY (channel_config_id, password_id)
);

-- Not even we change what is in the audit log, or remove it.
CREATE FUNCTION refuse_to_change_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit();
