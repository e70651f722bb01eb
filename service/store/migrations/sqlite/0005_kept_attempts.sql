-- oldest-code: 5
-- Failed attempts of deliveries that lost their place at the head. Older code can't insert deliveries with them.

-- Of the head, they are in its lane.
ALTER TABLE delivery ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
