-- What ties live to archive and backup.
ALTER TABLE state ADD COLUMN slice INTEGER NOT NULL DEFAULT 0;   -- how many slices the archive had got when this was last put right
ALTER TABLE state ADD COLUMN backed INTEGER NOT NULL DEFAULT 0;  -- flows of batches up to this are in the backup
ALTER TABLE state ADD COLUMN series INTEGER NOT NULL DEFAULT 0;  -- which backup that is; 0: none
ALTER TABLE state ADD COLUMN segment INTEGER NOT NULL DEFAULT 0; -- its newest part
ALTER TABLE state ADD COLUMN clock TEXT NOT NULL DEFAULT '';     -- by which flows were recorded: see Store.Clock

-- Flows in the backup that have changed since, or have been deleted.
CREATE TABLE dirty (
	flow  INTEGER PRIMARY KEY,            -- flows.id
	batch INTEGER NOT NULL                -- state.batch when it was last noted
) STRICT;

-- How much of another backup (that of before a reboot) has been taken over.
CREATE TABLE restored (
	series  INTEGER NOT NULL,
	segment INTEGER NOT NULL,
	blocks  INTEGER NOT NULL,             -- how many of it; -1: all
	PRIMARY KEY (series, segment)
) STRICT, WITHOUT ROWID;

-- Bytes written to disk by backup and archive.
CREATE TABLE written (
	day   INTEGER PRIMARY KEY,            -- local midnight, Unix ms
	bytes INTEGER NOT NULL
) STRICT;

-- How far files of the original Pakon have been imported.
CREATE TABLE imports (
	file     TEXT PRIMARY KEY,            -- what it is and how large
	position TEXT NOT NULL                -- where to go on; 'done' if nothing is left
) STRICT;
