-- Flows that have left live, as blocks (see package block) in order of time:
-- the ids in one are all less than those in the next.
CREATE TABLE blocks (
	first INTEGER PRIMARY KEY,            -- id of the first flow: start in Unix ms << 12, with a number
	last  INTEGER NOT NULL,               -- id of the last flow
	level INTEGER NOT NULL,               -- how often they have been merged; never more than in an earlier block
	ends  INTEGER NOT NULL,               -- end of the flow that ends last, Unix ms
	flows INTEGER NOT NULL,               -- how many there are in it
	mark  INTEGER NOT NULL,               -- tells it from what was there before: see markOf
	data  BLOB NOT NULL
) STRICT;

-- Blocks that could not be read any more, for whoever can.
CREATE TABLE damaged (
	first INTEGER NOT NULL,
	last  INTEGER NOT NULL,
	level INTEGER NOT NULL,
	flows INTEGER NOT NULL,
	data  BLOB NOT NULL
) STRICT;

-- The flows of a day that are archived, summed up by client, far end, port,
-- protocol and direction; as blocks, too.
CREATE TABLE sums (
	day   INTEGER NOT NULL,               -- its start, Unix ms
	part  INTEGER NOT NULL,               -- from 0 on
	until INTEGER NOT NULL,               -- its end, Unix ms
	ends  INTEGER NOT NULL,               -- end of the flow that ends last, Unix ms
	data  BLOB NOT NULL,
	PRIMARY KEY (day, part)
) STRICT;

CREATE TABLE state (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	identity INTEGER NOT NULL,            -- of the live database whose flows came last (its state.identity)
	slice    INTEGER NOT NULL,            -- how many slices of flows have come from live databases
	ran      INTEGER NOT NULL             -- when the last run ended, Unix ms; 0: never
) STRICT;
INSERT INTO state VALUES (1, 0, 0, 0);

-- What the slices were, as long as a backup may hold their flows: those of the
-- live database from first to last that had been there by the batch, but for
-- those that were still tracked.
CREATE TABLE moved (
	slice INTEGER PRIMARY KEY,
	first INTEGER NOT NULL,               -- flows.id of the live database
	last  INTEGER NOT NULL,
	batch INTEGER NOT NULL,
	kept  TEXT NOT NULL                   -- flows.id of those that stayed, a JSON array
) STRICT;

-- Bytes written to this disk, as far as they have been told: see Store.Storage.
CREATE TABLE written (
	day   INTEGER PRIMARY KEY,            -- local midnight, Unix ms
	bytes INTEGER NOT NULL
) STRICT;

-- How far files of the original Pakon have been imported.
CREATE TABLE imports (
	file     TEXT PRIMARY KEY,            -- what it is and how large
	position TEXT NOT NULL                -- where to go on; 'done' if nothing is left
) STRICT;
