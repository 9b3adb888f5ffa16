-- Up to when the data has been taken for old, and which uptime of which boot of
-- the machine that has followed: see package clock.
ALTER TABLE state ADD COLUMN aged INTEGER NOT NULL DEFAULT 0;   -- Unix ms; 0: not known
ALTER TABLE state ADD COLUMN boot TEXT NOT NULL DEFAULT '';
ALTER TABLE state ADD COLUMN uptime INTEGER NOT NULL DEFAULT 0; -- ms
-- Until now each run has taken all for old that the clock said.
UPDATE state SET aged = ran;
