-- oldest-code: 5
-- Which revisions this directory has had: who knows another one knows what was lost, and begins anew.
-- From here on a revision is the time of its change. What older code changes is missing: that costs a beginning anew.
-- One row a change, for good, like the audit's.

CREATE TABLE directory_change (
  revision INTEGER PRIMARY KEY
) STRICT;
INSERT INTO directory_change SELECT revision FROM directory;
