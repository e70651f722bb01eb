-- oldest-code: 4
-- Failed attempts of deliveries that lost their place at the head. Older code forgets them, as it always did.

-- Of the head, they are in its lane.
ALTER TABLE delivery ADD COLUMN attempts integer NOT NULL DEFAULT 0;
